"""`fairlead org`: the organizations that the token may see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fairlead_cli.options import with_output
from fairlead_cli.parameters import NameType
from fairlead_cli.terminal import Column, Terminal

if TYPE_CHECKING:
    from fairlead_cli.records import Organization


@click.group()
def org() -> None:
    """List and show organizations."""


@org.command(name="list")
@with_output
def list_all(terminal: Terminal) -> None:
    """List the organizations that your token may see."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        found = list(client.organizations())
    terminal.show_all(found, _columns(), lambda row: row.name)


@org.command()
@click.argument("name", required=False, type=NameType("organization"))
@with_output
def show(name: str | None, terminal: Terminal) -> None:
    """Show an organization, or the one that your token is for."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        found = client.organization_record(name or client.organization)
    terminal.show(found, _columns(), lambda row: row.name)


def _columns() -> list[Column[Organization]]:
    from datetime import UTC, datetime

    from fairlead_cli.lines import age

    now = datetime.now(UTC)
    return [Column("Name", lambda row: row.name), Column("Age", lambda row: age(row.created_at, now))]
