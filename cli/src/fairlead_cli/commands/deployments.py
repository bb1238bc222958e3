"""`fairlead deployments`: what was, is and will be deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fairlead_cli.options import AddressArgument, DeploymentArgument, examples, with_output, with_refresh
from fairlead_cli.parameters import DurationType, EnvironmentAddress
from fairlead_cli.terminal import Column, Terminal

if TYPE_CHECKING:
    from fairlead_cli.records import Deployment
    from fairlead_cli.refreshing import Listing

_SHORT_HASH = 12
_SHORT_REASON = 48


@click.group()
def deployments() -> None:
    """List, show, watch, cancel and retry deployments."""


@deployments.command(name="list")
@AddressArgument
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, newest first.")
@with_refresh
def list_all(address: EnvironmentAddress, limit: int, listing: Listing) -> None:
    """List the deployments of an environment, newest first."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        where = (address.application, address.environment)
        listing.show(lambda: list(client.deployments(*where, limit)), columns, lambda row: row.id)


@deployments.command(
    epilog=examples(
        "fairlead deployments show 01k9x0q6v3t1m8c5n7b2d4f6gh",
        "fairlead deployments show 01k9x0q6v3t1m8c5n7b2d4f6gh --watch --timeout 5m",
    )
)
@DeploymentArgument
@click.option("--watch", "-w", "is_watched", is_flag=True, help="Follow it to its end; the exit code says how it went.")
@click.option("--timeout", type=DurationType(), help="With --watch: how long to watch, e.g. 5m.")
@with_output
def show(deployment_id: str, is_watched: bool, timeout: float | None, terminal: Terminal) -> int:  # noqa: FBT001
    """Show one deployment, or watch it to its end."""
    from fairlead_cli.connecting import connect
    from fairlead_cli.errors import ExitCode
    from fairlead_cli.watching import watch_and_show

    with connect() as client:
        found = client.deployment(deployment_id)
        if is_watched:
            return watch_and_show(client, terminal, found, timeout)
    show_deployment(terminal, found)
    return ExitCode.OK


@deployments.command()
@DeploymentArgument
@with_output
def cancel(deployment_id: str, terminal: Terminal) -> None:
    """
    Ask for a deployment to stop.

    One that waits is cancelled at once. One that runs winds down: what was applied stays applied.
    """
    from fairlead_cli.connecting import connect

    with connect() as client:
        found = client.cancel(deployment_id)
    show_deployment(terminal, found)


@deployments.command(epilog=examples("fairlead deployments retry 01k9x0q6v3t1m8c5n7b2d4f6gh --watch"))
@DeploymentArgument
@click.option("--watch", "-w", "is_watched", is_flag=True, help="Follow it to its end; the exit code says how it went.")
@click.option("--timeout", type=DurationType(), help="With --watch: how long to watch, e.g. 5m.")
@with_output
def retry(
    deployment_id: str,
    is_watched: bool,  # noqa: FBT001  (click passes by name)
    timeout: float | None,
    terminal: Terminal,
) -> int:
    """
    Try a deployment again that failed, expired, was refused or cancelled.

    It is the same bundle under the same statement, so nobody signs anew. Refused if the statement has expired, or if
    something newer was deployed to the environment.
    """
    from fairlead_cli.connecting import connect
    from fairlead_cli.errors import ExitCode
    from fairlead_cli.watching import watch_and_show

    with connect() as client:
        told = [stored.id for stored in client.deployment_events(deployment_id, follow=False)] if is_watched else []
        found = client.retry(deployment_id)
        if is_watched:
            return watch_and_show(client, terminal, found, timeout, after=max(told, default=0))
    show_deployment(terminal, found)
    terminal.say(f"see it with 'fairlead deployments show {found.id} --watch'")
    return ExitCode.OK


def show_deployment(terminal: Terminal, deployment: Deployment) -> None:
    """Write one deployment to stdout."""
    terminal.show(deployment, columns(), lambda row: row.id)


def columns() -> list[Column[Deployment]]:
    """Return the columns of a deployment."""
    from datetime import UTC, datetime

    from fairlead_cli.lines import age, counts_text

    now = datetime.now(UTC)
    return [
        Column("Deployment", lambda row: row.id),
        Column("Environment", lambda row: f"{row.application}/{row.environment}"),
        Column("State", lambda row: row.state),
        Column("Reason", lambda row: row.cause or row.reason, most=_SHORT_REASON),
        Column("Changes", lambda row: counts_text(row.counts) if row.counts else None),
        Column("Age", lambda row: age(row.created_at, now)),
        Column("By", lambda row: row.created_by, is_wide=True),
        Column("Rollback", _rollback_text, is_wide=True),
        Column("Rolled back", _undone_text, is_wide=True),
        Column("Cluster", lambda row: row.cluster, is_wide=True),
        Column("Bundle", lambda row: row.bundle_sha256[:_SHORT_HASH], is_wide=True),
    ]


def _rollback_text(row: Deployment) -> str:
    return f"of {row.rollback_of}" if row.rollback_of else "yes" if row.rollback else "no"


def _undone_text(row: Deployment) -> str | None:
    if row.rollback_skipped:
        return f"no: {row.rollback_skipped}"
    return row.rolled_back_by and f"by {row.rolled_back_by}"
