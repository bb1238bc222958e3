"""`fairlead env`: environments, the running copies of an application."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fairlead_cli.options import AddressArgument, LabelOption, SelectorOption, examples, with_output, with_refresh
from fairlead_cli.parameters import EnvironmentAddress, NameType
from fairlead_cli.terminal import Column, Terminal

if TYPE_CHECKING:
    from fairlead_cli.records import DeletionPlan, Environment
    from fairlead_cli.refreshing import Listing


@click.group()
def env() -> None:
    """Create, list, show and delete environments."""


@env.command(
    epilog=examples(
        "fairlead env create shop/staging --type staging --cluster prod --namespace shop",
    )
)
@AddressArgument
@click.option("--type", "environment_type", type=NameType("type"), required=True, help="For example staging.")
@click.option("--cluster", type=NameType("cluster"), required=True, help="Where it runs.")
@click.option("--namespace", type=NameType("namespace"), required=True, help="Of objects that name none.")
@LabelOption
@with_output
def create(
    address: EnvironmentAddress,
    environment_type: str,
    cluster: str,
    namespace: str,
    labels: tuple[tuple[str, str], ...],
    terminal: Terminal,
) -> None:
    """
    Create an environment.

    The cluster's operator decides whether the namespace may be used: the agent's values must bind it.
    """
    from fairlead_cli.connecting import connect

    with connect() as client:
        made = client.create_environment(
            address.application,
            address.environment,
            environment_type=environment_type,
            cluster=cluster,
            namespace=namespace,
            labels=dict(labels),
        )
    terminal.show(made, _columns(address.application)[:4], lambda _row: str(address))


@env.command(name="list")
@click.argument("application", metavar="[APP]", required=False, type=NameType("application"))
@SelectorOption
@with_refresh
def list_all(application: str | None, selector: str, listing: Listing) -> None:
    """List the environments of one application, or of all."""
    from fairlead_cli.connecting import connect

    with connect() as client:

        def fetch() -> list[Environment]:
            names = [application] if application else [one.name for one in client.applications()]
            found = ((name, one) for name in names for one in client.environments(name, selector))
            return [one.model_copy(update={"application": name}) for name, one in found]

        listing.show(fetch, _columns, lambda row: f"{row.application}/{row.name}")


@env.command()
@AddressArgument
@with_output
def show(address: EnvironmentAddress, terminal: Terminal) -> None:
    """Show one environment, with what runs there."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        found = client.environment(address.application, address.environment)
    terminal.show(found, _columns(address.application), lambda _row: str(address))


@env.command(
    epilog=examples(
        "fairlead env delete shop/staging --watch",
        "fairlead env delete shop/staging --yes shop/staging",
        "fairlead env delete shop/staging --no-hooks",
        "fairlead env delete shop/staging --orphan",
    )
)
@AddressArgument
@click.option(
    "--yes", "typed", metavar="APP/ENV", help="In scripts: the environment's name again, in place of typing it."
)
@click.option("--no-hooks", "skips_hooks", is_flag=True, help="Do not run hooks before and after.")
@click.option("--orphan", "is_orphaned", is_flag=True, help="Leave what it made in the cluster; only forget it.")
@click.option("--watch", "-w", "is_watched", is_flag=True, help="Follow it to its end; the exit code says how it went.")
@with_output
def delete(
    address: EnvironmentAddress,
    typed: str | None,
    skips_hooks: bool,  # noqa: FBT001  (click passes by name)
    is_orphaned: bool,  # noqa: FBT001  (click passes by name)
    is_watched: bool,  # noqa: FBT001  (click passes by name)
    terminal: Terminal,
) -> int:
    """
    Delete an environment, and all that it made in its cluster.

    What would be deleted is shown first, and the environment's name has to be typed. Its agent then deletes what its
    inventory holds and nothing else; the environment is gone when that is done. Hooks of the last deployment that run
    before and after a deletion do so, and one that fails before it stops it.
    """
    from fairlead_cli.connecting import connect
    from fairlead_cli.errors import ExitCode
    from fairlead_cli.watching import watch_job

    where = (address.application, address.environment)
    with connect() as client:
        plan = client.deletion_plan(*where)
        runs_hooks = not skips_hooks and not is_orphaned
        if not _is_confirmed(terminal, plan, typed, is_orphaned=is_orphaned, runs_hooks=runs_hooks):
            terminal.fail("that is not its name; nothing was deleted")
            return ExitCode.ERROR
        if is_orphaned:
            client.orphan_environment(*where, plan.confirmation)
            terminal.say(f"environment {address} is forgotten; what it made is still in cluster {plan.cluster}")
            return ExitCode.OK
        job = client.delete_environment(*where, plan.confirmation, runs_hooks=runs_hooks)
        if is_watched:
            return watch_job(client, terminal, job, f"deletion of {address}")
    terminal.show(job, [Column("Job", lambda row: row.id), Column("State", lambda row: row.state)], lambda row: row.id)
    terminal.say(f"see it with 'fairlead jobs show {job.id}'")
    return ExitCode.OK


def _is_confirmed(
    terminal: Terminal, plan: DeletionPlan, typed: str | None, *, is_orphaned: bool, runs_hooks: bool
) -> bool:
    """Show what would happen, and have the environment's name typed, unless a script named it."""
    if typed is None:
        terminal.say(f"{plan.confirmation} in cluster {plan.cluster}:")
        for ref in plan.objects:
            terminal.say(f"  {'stays' if is_orphaned else 'deleted'}: {ref}")
        for hook in plan.hooks:
            terminal.say(f"  {'runs' if runs_hooks else 'does not run'}: {hook}")
        for deployment in plan.unfinished_deployments:
            terminal.say(f"  ended: deployment {deployment}")
        if plan.kept and not is_orphaned:
            terminal.say(plan.kept)
        typed = click.prompt(f"Type {plan.confirmation} to delete it", err=True)
    return typed == plan.confirmation


def _columns(application: str = "") -> list[Column[Environment]]:
    from fairlead_cli.lines import drift_text

    return [
        Column("Name", lambda row: f"{application or row.application}/{row.name}"),
        Column("Type", lambda row: row.type),
        Column("Cluster", lambda row: row.cluster),
        Column("Namespace", lambda row: row.namespace),
        Column("Latest", lambda row: row.latest and row.latest.state),
        Column("Drift", lambda row: row.drift and drift_text(row.drift)),
        Column("Labels", lambda row: row.labels_text, is_wide=True),
        Column("Current deployment", lambda row: row.current and row.current.id, is_wide=True),
        Column("Sealing key", lambda row: row.sealing_key and row.sealing_key.fingerprint, is_wide=True),
    ]
