"""`fairlead deploy`: from files to a deployment, seen to its end if asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from fairlead_cli.options import (
    ContentNames,
    Precedence,
    Watching,
    examples,
    with_consents,
    with_content,
    with_output,
    with_precedence,
    with_watching,
)
from fairlead_cli.parameters import AddressType, EnvironmentAddress
from fairlead_cli.terminal import Column, Format, Terminal

if TYPE_CHECKING:
    from fairlead_cli.bundling import Prepared
    from fairlead_cli.changes import ObjectChange
    from fairlead_cli.client import Client
    from fairlead_cli.manifests import Located
    from fairlead_cli.records import Environment


@click.command(
    epilog=examples(
        "fairlead deploy -f k8s/ --env shop/staging --watch",
        "fairlead deploy -f overlays/staging/ --env shop/staging",
        "fairlead deploy -f chart/ --values staging.yaml --env shop/staging --watch --timeout 5m",
        "fairlead deploy -f web.yaml -f https://example.com/v1.2/db.yaml --env shop/staging",
    )
)
@with_content
@click.option("--env", "-e", "address", type=AddressType(), required=True, help="Where to.")
@with_watching
@with_precedence
@with_consents
@click.option(
    "--rollback-on-failure",
    "is_undone",
    is_flag=True,
    help="If it fails after its first write, deploy what succeeded before again.",
)
@click.option("--dry-run", "is_dry", is_flag=True, help="Ask the cluster what it would change; nothing is.")
@with_output
def deploy(
    content: ContentNames,
    address: EnvironmentAddress,
    watching: Watching,
    is_undone: bool,  # noqa: FBT001  (click passes by name)
    is_dry: bool,  # noqa: FBT001  (click passes by name)
    precedence: Precedence,
    consents: dict[str, object],
    terminal: Terminal,
) -> int:
    """
    Deploy manifests to an environment.

    What the environment ran before and the files no longer name is deleted; what it did not create is never touched.
    Values of Secrets are sealed to the cluster's agent before they leave this machine.

    A folder with a kustomization.yaml is built by your kustomize or kubectl, a Helm chart rendered by your helm.

    --dry-run has the agent check all that it checks before a deployment's first write, and say of each object what
    would be done and which fields would change; nothing is. --timeout is then how long to wait for its answer.

    With --rollback-on-failure the relay deploys the bundle again that succeeded before, once this one has failed after
    its first write; --watch follows that, too, and the exit code stays that of the failure.
    """
    if watching.is_watched and is_dry:
        raise click.UsageError("--watch and --dry-run exclude each other: nothing would happen that could be watched")
    if is_undone and is_dry:
        raise click.UsageError("--rollback-on-failure and --dry-run exclude each other: nothing would be done")
    import os
    import sys
    from functools import partial

    from fairlead_cli.bundling import prepare
    from fairlead_cli.commands.deployments import show_deployment
    from fairlead_cli.config import config_file
    from fairlead_cli.connecting import connect
    from fairlead_cli.content import chart_options, read_content
    from fairlead_cli.deployment_ids import new_deployment_id
    from fairlead_cli.errors import ExitCode
    from fairlead_cli.manifests import read_manifests
    from fairlead_cli.recipients import FILE_NAME
    from fairlead_cli.watching import watch_and_show

    with connect() as client:
        environment = client.environment(address.application, address.environment)
        environment = environment.model_copy(update={"application": address.application})
        pins = config_file(os.environ).with_name(FILE_NAME)
        version = partial(client.kubernetes_version, environment.cluster)
        chart = chart_options(content, address.application, environment.namespace, version)
        texts = read_content(content.names, sys.stdin, chart, terminal.say)
        located = read_manifests(texts, environment.namespace)
        prepared = prepare(located, client.organization, environment, client.context.server, pins)
        if prepared.new_pin:
            terminal.say(f"pinned the sealing key {prepared.new_pin} at its first use, in {pins}")
        if is_dry:
            return _dry_run(client, terminal, environment, located, prepared, consents, watching.timeout_seconds)
        bundle = prepared.bundle
        if not client.has_bundle(bundle.sha256):
            client.put_bundle(bundle.sha256, bundle.content)
        body: dict[str, object] = {
            "deployment_id": new_deployment_id(),
            "bundle_sha256": bundle.sha256,
            "origins": dict(prepared.origins),
            **watching.fields(),
            **precedence.fields(),
            **consents,
            **({"rollback_on_failure": True} if is_undone else {}),
        }
        made = client.deploy(address.application, address.environment, body)
        if watching.is_watched:
            return watch_and_show(client, terminal, made, watching.timeout_seconds)
    show_deployment(terminal, made)
    terminal.say(f"see it with 'fairlead deployments show {made.id} --watch'")
    return ExitCode.OK


def _dry_run(
    client: Client,
    terminal: Terminal,
    environment: Environment,
    located: Sequence[Located],
    prepared: Prepared,
    consents: dict[str, object],
    timeout: float | None,
) -> int:
    """Show what the agent plans, or else how the bundle differs from the last; return the exit code."""
    from fairlead_cli.errors import ExitCode
    from fairlead_cli.planning import TIMEOUT_SECONDS, Unplanned, ask_for_plan, show_plan, summary

    try:
        plan = ask_for_plan(client, environment, prepared, consents, timeout or TIMEOUT_SECONDS)
    except Unplanned as reason:
        terminal.say(f"{reason}. Compared with what was deployed last instead, which is not the cluster")
        _show_comparison(client, terminal, environment, located, prepared)
        return ExitCode.OK
    show_plan(terminal, plan, is_whole=True)
    terminal.say(summary(plan))
    return ExitCode.OK if plan.is_possible else ExitCode.FAILED


def _show_comparison(
    client: Client, terminal: Terminal, environment: Environment, located: Sequence[Located], prepared: Prepared
) -> None:
    from fairlead_cli.comparing import compare_with_current, remark
    from fairlead_cli.lines import counts_text
    from fairlead_cli.sealed_secrets import has_values

    changes = compare_with_current(client, environment, located)
    is_stable = not any(has_values(one) for one in located)
    sha256 = prepared.bundle.sha256 if is_stable else None
    size_bytes = len(prepared.bundle.content)
    changes = changes.model_copy(update={"bundle_sha256": sha256, "bundle_bytes": size_bytes})
    if terminal.is_table or terminal.format is Format.NAME:
        columns: list[Column[ObjectChange]] = [
            Column("Object", lambda row: row.object),
            Column("Action", lambda row: row.action),
            Column("Origin", lambda row: row.origin),
        ]
        terminal.show_all(changes.objects, columns, lambda row: str(row.object))
    else:
        terminal.show(changes, [], lambda row: row.environment)
    remark(terminal, environment, changes)
    compared = (
        f"compared with deployment {changes.compared_with}" if changes.compared_with else "nothing runs there yet"
    )
    bundle = f"bundle {sha256}" if sha256 else "a bundle whose hash is another each time, for its Secrets"
    terminal.say(f"{counts_text(changes.counts())}; {compared}; {bundle}, {size_bytes:,} bytes. Nothing was changed.")
