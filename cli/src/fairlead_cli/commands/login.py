"""`fairlead login`: stores relay and token, after the relay has recognised the token."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from fairlead_cli.options import chosen_context, examples, with_output
from fairlead_cli.terminal import Terminal

_LONGEST_LINE = 1000
"""Of standard input, in characters; a token has 54."""


@click.command(
    epilog=examples(
        "fairlead login https://relay.example.com:7443",
        "fairlead login https://127.0.0.1:7443 --ca-file ca.pem < token",
        "fairlead login https://relay.example.org:7443 --context partner",
    )
)
@click.argument("server", metavar="URL")
@click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file of the CA that issued the relay's certificate, if it is not a public one.",
)
@with_output
def login(server: str, ca_file: Path | None, terminal: Terminal) -> None:
    """
    Say which relay to talk to, and with which token.

    The token comes from FAIRLEAD_TOKEN, else from standard input, else it is asked for. It is tried first, then
    stored in ~/.config/fairlead/config.yaml (or FAIRLEAD_CONFIG), readable by you only.

    Each relay is a context, of which one is current. --context or FAIRLEAD_CONTEXT names it; otherwise it is the one
    that has this URL already, or a new one.
    """
    from fairlead_cli.client import Client
    from fairlead_cli.config import Context, check_context_name, check_server, check_token, config_file, name_for, save

    checked = check_server(server)
    file = config_file(os.environ)
    wanted = chosen_context() or os.environ.get("FAIRLEAD_CONTEXT")
    name = check_context_name(wanted or name_for(file, checked))
    token = check_token(os.environ.get("FAIRLEAD_TOKEN") or _read_token())
    context = Context(checked, token, ca_file=str(ca_file.resolve()) if ca_file else "")
    with Client(context) as client:
        me = client.whoami()
    save(file, Context(context.server, token, me.organization, context.ca_file), name)
    terminal.say(f"logged in to {context.server} as {me.role} of {me.organization}; context {name} of {file}")


def _read_token() -> str:
    """Read the token where no history, process list or screen keeps it."""
    if not is_a_person_there():
        return sys.stdin.readline(_LONGEST_LINE)
    answer = click.prompt("Token", hide_input=True, err=True)
    return str(answer)


def is_a_person_there() -> bool:
    """Tell whether standard input is a terminal."""
    return sys.stdin.isatty()
