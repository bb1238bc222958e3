"""`fairlead jobs`: the units of work of agents, among them what failed and may be tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fairlead_cli.options import examples, with_output, with_refresh
from fairlead_cli.parameters import JOB, AddressType, EnvironmentAddress, NameType
from fairlead_cli.terminal import Column, Terminal

if TYPE_CHECKING:
    from fairlead_cli.records import Job
    from fairlead_cli.refreshing import Listing

FAILED_STATES = ("failed", "refused", "expired")
STATES = (
    *("queued", "leased", "running", "cancelling", "unreachable"),
    *("succeeded", "failed", "refused", "cancelled", "superseded", "expired"),
)
_SHORT_REASON = 48

JobArgument = click.argument("job_id", metavar="JOB", type=JOB)


@click.group()
def jobs() -> None:
    """List, show and cancel jobs."""


@jobs.command(
    name="list",
    epilog=examples(
        "fairlead jobs list --failed",
        "fairlead jobs list --env shop/staging --state queued --state running",
        "fairlead jobs list --failed -o 'jsonpath={.items[*].deployment_id}'",
    ),
)
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="Of this state. May be repeated.")
@click.option("--failed", "is_failed", is_flag=True, help="Those that failed, were refused or expired.")
@click.option("--kind", help="Of this kind, such as deploy or health.")
@click.option("--cluster", type=NameType("cluster"), help="Of this cluster's agent.")
@click.option("--env", "-e", "address", type=AddressType(), help="Of this environment.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, newest first.")
@with_refresh
def list_all(
    states: tuple[str, ...],
    is_failed: bool,  # noqa: FBT001  (click passes by name)
    kind: str | None,
    cluster: str | None,
    address: EnvironmentAddress | None,
    limit: int,
    listing: Listing,
) -> None:
    """
    List jobs, newest first.

    What failed can be tried again as it is with 'fairlead deployments retry DEPLOYMENT'.
    """
    from fairlead_cli.connecting import connect

    wanted = {
        "state": [*states, *(FAILED_STATES if is_failed else ())],
        "kind": kind,
        "cluster": cluster,
        "application": address.application if address else None,
        "environment": address.environment if address else None,
    }
    query = {name: value for name, value in wanted.items() if value}
    with connect() as client:
        listing.show(lambda: list(client.jobs(query, limit)), _columns, lambda row: row.id)


@jobs.command()
@JobArgument
@with_output
def show(job_id: str, terminal: Terminal) -> None:
    """Show one job."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        found = client.job(job_id)
    terminal.show(found, _columns(), lambda row: row.id)


@jobs.command()
@JobArgument
@with_output
def cancel(job_id: str, terminal: Terminal) -> None:
    """Ask for a job to stop: at once if no agent has it; else its agent winds down."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        found = client.cancel_job(job_id)
    terminal.show(found, _columns(), lambda row: row.id)


def _columns() -> list[Column[Job]]:
    from datetime import UTC, datetime

    from fairlead_cli.lines import age

    now = datetime.now(UTC)
    return [
        Column("Job", lambda row: row.id),
        Column("Kind", lambda row: row.kind),
        Column("Where", lambda row: f"{row.application}/{row.environment}" if row.application else row.cluster),
        Column("State", lambda row: row.state),
        Column("Reason", lambda row: row.cause or row.reason, most=_SHORT_REASON),
        Column("Deployment", lambda row: row.deployment_id),
        Column("Age", lambda row: age(row.created_at, now)),
        Column("Cluster", lambda row: row.cluster, is_wide=True),
        Column("Attempt", lambda row: row.attempt, is_wide=True),
        Column("Priority", lambda row: row.priority, is_wide=True),
        Column("By", lambda row: row.created_by, is_wide=True),
        Column("Deadline", lambda row: row.deadline, is_wide=True),
    ]
