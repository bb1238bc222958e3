"""`fairlead app`: applications."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fairlead_cli.options import LabelOption, SelectorOption, examples, with_output, with_refresh
from fairlead_cli.parameters import NameType
from fairlead_cli.terminal import Column, Terminal

if TYPE_CHECKING:
    from fairlead_cli.records import Application
    from fairlead_cli.refreshing import Listing


@click.group()
def app() -> None:
    """Create and list applications."""


@app.command(
    epilog=examples(
        "fairlead app create shop",
    )
)
@click.argument("name", type=NameType("application"))
@LabelOption
@with_output
def create(name: str, labels: tuple[tuple[str, str], ...], terminal: Terminal) -> None:
    """Create an application."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        made = client.create_application(name, labels=dict(labels))
    terminal.show(made, _columns()[:1], lambda row: row.name)


@app.command(name="list")
@SelectorOption
@with_refresh
def list_all(selector: str, listing: Listing) -> None:
    """List the applications."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        listing.show(lambda: list(client.applications(selector)), _columns, lambda row: row.name)


def _columns() -> list[Column[Application]]:
    return [Column("Name", lambda row: row.name), Column("Labels", lambda row: row.labels_text, is_wide=True)]
