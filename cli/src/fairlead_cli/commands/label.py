"""`fairlead label`: labels of clusters, applications and environments, by which lists are narrowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fairlead_cli.options import AddressArgument, examples, with_output
from fairlead_cli.parameters import EnvironmentAddress, LabelChangeType, NameType
from fairlead_cli.terminal import Column, Terminal

if TYPE_CHECKING:
    from fairlead_cli.records import Labelled

Changes = tuple[tuple[str, str | None], ...]

ChangesArgument = click.argument(
    "changes", metavar="KEY=VALUE|KEY-...", nargs=-1, required=True, type=LabelChangeType()
)


@click.group()
def label() -> None:
    """Set and remove labels; 'KEY-' removes one, others stay."""


@label.command(epilog=examples("fairlead label cluster prod region=eu tier-"))
@click.argument("name", type=NameType("cluster"))
@ChangesArgument
@with_output
def cluster(name: str, changes: Changes, terminal: Terminal) -> None:
    """Change labels of a cluster."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        changed = client.label_cluster(name, dict(changes))
    _show(terminal, changed, name)


@label.command(epilog=examples("fairlead label app shop team=harbour"))
@click.argument("name", type=NameType("application"))
@ChangesArgument
@with_output
def app(name: str, changes: Changes, terminal: Terminal) -> None:
    """Change labels of an application."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        changed = client.label_application(name, dict(changes))
    _show(terminal, changed, name)


@label.command(epilog=examples("fairlead label env shop/staging tier=gold"))
@AddressArgument
@ChangesArgument
@with_output
def env(address: EnvironmentAddress, changes: Changes, terminal: Terminal) -> None:
    """Change labels of an environment."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        changed = client.label_environment(address.application, address.environment, dict(changes))
    _show(terminal, changed, str(address))


def _show(terminal: Terminal, changed: Labelled, name: str) -> None:
    columns: list[Column[Labelled]] = [
        Column("Name", lambda _row: name),
        Column("Labels", lambda row: row.labels_text),
    ]
    terminal.show(changed, columns, lambda _row: name)
