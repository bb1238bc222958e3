"""`fairlead app`: applications."""

from __future__ import annotations

import click

from fairlead_cli.options import examples, with_output
from fairlead_cli.parameters import NameType
from fairlead_cli.terminal import Column, Terminal


@click.group()
def app() -> None:
    """Create and list applications."""


@app.command(
    epilog=examples(
        "fairlead app create shop",
    )
)
@click.argument("name", type=NameType("application"))
@with_output
def create(name: str, terminal: Terminal) -> None:
    """Create an application."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        made = client.create_application(name)
    terminal.show(made, [Column("Name", lambda row: row.name)], lambda row: row.name)


@app.command(name="list")
@with_output
def list_all(terminal: Terminal) -> None:
    """List the applications."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        applications = list(client.applications())
    terminal.show_all(applications, [Column("Name", lambda row: row.name)], lambda row: row.name)
