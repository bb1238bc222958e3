"""`fairlead rollback`: deploys an earlier bundle again."""

from __future__ import annotations

import click

from fairlead_cli.options import AddressArgument, Precedence, examples, with_consents, with_output, with_precedence
from fairlead_cli.parameters import DEPLOYMENT, DurationType, EnvironmentAddress
from fairlead_cli.terminal import Terminal


@click.command(
    epilog=examples(
        "fairlead rollback shop/staging --watch",
        "fairlead rollback shop/staging --to 01k9x0q6v3t1m8c5n7b2d4f6gh",
    )
)
@AddressArgument
@click.option("--to", type=DEPLOYMENT, help="Deployment whose bundle is wanted.")
@click.option("--watch", "-w", "is_watched", is_flag=True, help="Follow it to its end; the exit code says how it went.")
@click.option("--timeout", type=DurationType(), help="How long it may take to become healthy, e.g. 5m; then it fails.")
@with_precedence
@with_consents
@with_output
def rollback(
    address: EnvironmentAddress,
    to: str | None,
    is_watched: bool,  # noqa: FBT001  (click passes by name)
    timeout: float | None,
    precedence: Precedence,
    consents: dict[str, object],
    terminal: Terminal,
) -> int:
    """
    Deploy an earlier bundle of an environment again.

    Without --to it is the last bundle that succeeded and differs from what runs.
    """
    from fairlead_cli.commands.deployments import show_deployment
    from fairlead_cli.connecting import connect
    from fairlead_cli.deployment_ids import new_deployment_id
    from fairlead_cli.errors import ExitCode
    from fairlead_cli.watching import watch_and_show

    with connect() as client:
        body: dict[str, object] = {"deployment_id": new_deployment_id(), **precedence.fields(), **consents}
        if to is not None:
            body["to"] = to
        if timeout is not None:
            body |= {"wait_seconds": timeout, "deadline_seconds": timeout}
        made = client.roll_back(address.application, address.environment, body)
        if is_watched:
            return watch_and_show(client, terminal, made, timeout)
    show_deployment(terminal, made)
    return ExitCode.OK
