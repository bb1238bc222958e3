"""`fairlead audit`: who did what in the organization, or tried to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fairlead_cli.options import examples, with_output
from fairlead_cli.parameters import LifeType
from fairlead_cli.terminal import Column, Terminal

if TYPE_CHECKING:
    from fairlead_cli.records import AuditRecord

OUTCOMES = ("succeeded", "failed", "denied")


@click.group()
def audit() -> None:
    """Read the audit log, as an admin."""


@audit.command(
    name="list",
    epilog=examples(
        "fairlead audit list --since 1h --outcome denied",
        "fairlead audit list --actor 'CI of the shop' --verb deployment.create",
        "fairlead audit list --limit 1000 -o json > audit.json",
    ),
)
@click.option("--actor", help="By this one: a token's id or name, a cluster for its agent.")
@click.option("--verb", help="Of this verb, such as deployment.create or token.revoke.")
@click.option("--outcome", type=click.Choice(OUTCOMES), help="That ended so.")
@click.option("--since", type=LifeType(), metavar="TIME", help="Of the last 30m, 12h, 7d ...  [default: all]")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many, newest first.")
@with_output
def list_all(
    actor: str | None,
    verb: str | None,
    outcome: str | None,
    since: float | None,
    limit: int,
    terminal: Terminal,
) -> None:
    """
    List who did what, or tried to, newest first.

    Denied are attempts that a token's role did not allow, looks at things too; what failed was allowed, and something
    was in the way.
    """
    from datetime import UTC, datetime, timedelta

    from fairlead_cli.connecting import connect

    after = None if since is None else (datetime.now(UTC) - timedelta(seconds=since)).isoformat()
    wanted = {"actor": actor, "verb": verb, "outcome": outcome, "since": after}
    query = {name: value for name, value in wanted.items() if value}
    with connect() as client:
        found = list(client.audit(query, limit))
    terminal.show_all(found, _columns(), lambda row: str(row.number))


def _columns() -> list[Column[AuditRecord]]:
    return [
        Column("Number", lambda row: str(row.number)),
        Column("Time", lambda row: f"{row.at:%Y-%m-%d %H:%M:%S}"),
        Column("Actor", lambda row: row.actor.name or row.actor.id),
        Column("Verb", lambda row: row.verb),
        Column("Target", lambda row: row.target),
        Column("Outcome", lambda row: row.outcome),
        Column("Detail", lambda row: row.detail, is_wide=True),
        Column("Role", lambda row: row.actor.role or row.actor.kind, is_wide=True),
        Column("Address", lambda row: row.address, is_wide=True),
        Column("Request", lambda row: row.request_id, is_wide=True),
    ]
