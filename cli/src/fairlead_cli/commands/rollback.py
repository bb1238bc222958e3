"""`fairlead rollback`: deploys an earlier bundle again."""

from __future__ import annotations

import click

from fairlead_cli.options import (
    AddressArgument,
    Precedence,
    Watching,
    examples,
    with_consents,
    with_output,
    with_precedence,
    with_watching,
)
from fairlead_cli.parameters import DEPLOYMENT, EnvironmentAddress
from fairlead_cli.terminal import Terminal


@click.command(
    epilog=examples(
        "fairlead rollback shop/staging --watch",
        "fairlead rollback shop/staging --to 01k9x0q6v3t1m8c5n7b2d4f6gh",
    )
)
@AddressArgument
@click.option("--to", type=DEPLOYMENT, help="Deployment whose bundle is wanted.")
@with_watching
@with_precedence
@with_consents
@with_output
def rollback(
    address: EnvironmentAddress,
    to: str | None,
    watching: Watching,
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
        body: dict[str, object] = {
            "deployment_id": new_deployment_id(),
            **watching.fields(),
            **precedence.fields(),
            **consents,
        }
        if to is not None:
            body["to"] = to
        made = client.roll_back(address.application, address.environment, body)
        if watching.is_watched:
            return watch_and_show(client, terminal, made, watching.timeout_seconds)
    show_deployment(terminal, made)
    return ExitCode.OK
