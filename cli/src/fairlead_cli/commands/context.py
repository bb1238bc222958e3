"""`fairlead context`: the relays that the command knows, of which one is current."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from fairlead_cli.options import chosen_context, examples, with_output
from fairlead_cli.parameters import complete_contexts
from fairlead_cli.terminal import Column, Terminal

if TYPE_CHECKING:
    from fairlead_cli.context_report import ContextReport

NameArgument = click.argument("name", shell_complete=complete_contexts)


@click.group()
def context() -> None:
    """List, choose, rename and forget stored relays."""


@context.command(name="list")
@with_output
def list_all(terminal: Terminal) -> None:
    """List the contexts; the current one has a star."""
    from fairlead_cli.config import config_file, read_stored
    from fairlead_cli.context_report import report

    stored = read_stored(config_file(os.environ))
    terminal.show_all([report(stored, name) for name in stored.contexts], _columns(), lambda row: row.name)


@context.command()
@click.argument("name", required=False, shell_complete=complete_contexts)
@with_output
def show(name: str | None, terminal: Terminal) -> None:
    """Show a context, or the current one; never its token."""
    from fairlead_cli.config import config_file, read_stored
    from fairlead_cli.context_report import report
    from fairlead_cli.errors import NotLoggedIn

    stored = read_stored(config_file(os.environ))
    wanted = name or chosen_context() or os.environ.get("FAIRLEAD_CONTEXT") or stored.current
    if not wanted:
        raise NotLoggedIn("no context is current")
    terminal.show(report(stored, wanted), _columns(), lambda row: row.name)


@context.command(epilog=examples("fairlead context use partner"))
@NameArgument
@with_output
def use(name: str, terminal: Terminal) -> None:
    """Make a context the current one, for all shells."""
    from fairlead_cli.config import config_file, read_stored, write_stored

    file = config_file(os.environ)
    stored = read_stored(file).using(name)
    write_stored(file, stored)
    terminal.say(f"the current context is {name}: {stored.contexts[name].server}")
    if os.environ.get("FAIRLEAD_CONTEXT", name) != name:
        terminal.say("in this shell FAIRLEAD_CONTEXT chooses another one")


@context.command(epilog=examples("fairlead context rename default prod"))
@NameArgument
@click.argument("new_name")
@with_output
def rename(name: str, new_name: str, terminal: Terminal) -> None:
    """Give a context another name."""
    from fairlead_cli.config import check_context_name, config_file, read_stored, write_stored

    file = config_file(os.environ)
    write_stored(file, read_stored(file).renamed(name, check_context_name(new_name)))
    terminal.say(f"context {name} is now {new_name}")


@context.command()
@NameArgument
@with_output
def delete(name: str, terminal: Terminal) -> None:
    """
    Forget a context and its token.

    The token stays valid until it is revoked or expires.
    """
    from fairlead_cli.config import config_file, read_stored, write_stored

    file = config_file(os.environ)
    stored = read_stored(file).without(name)
    write_stored(file, stored)
    terminal.say(f"context {name} is forgotten")
    if not stored.current:
        terminal.say("no context is current now; 'fairlead context use NAME' chooses one")


def _columns() -> list[Column[ContextReport]]:
    return [
        Column("Current", lambda row: "*" if row.is_current else ""),
        Column("Name", lambda row: row.name),
        Column("Server", lambda row: row.server),
        Column("Organization", lambda row: row.organization),
        Column("CA file", lambda row: row.ca_file, is_wide=True),
    ]
