"""`fairlead token`: API tokens of the organization, for CI and people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fairlead_cli.options import examples, with_output
from fairlead_cli.parameters import LifeType, NameType
from fairlead_cli.terminal import Column, Terminal

if TYPE_CHECKING:
    from fairlead_cli.records import Token

ROLES = ("viewer", "deployer", "admin")


@click.group()
def token() -> None:
    """Create, list and revoke API tokens, as an admin."""


@token.command(
    epilog=examples(
        "fairlead token create 'CI of the shop' --role deployer --application shop --output-file ci-token",
        "fairlead token create alice --role viewer --expires 8h > token",
    )
)
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What it may do.")
@click.option("--application", type=NameType("application"), help="The only one that it is good for.")
@click.option("--expires", type=LifeType(), default="90d", show_default=True, help="Its life, such as 12h; or never.")
@click.option(
    "--output-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the secret there, readable by you only, and do not print it.",
)
@with_output
def create(
    name: str,
    role: str,
    application: str | None,
    expires: float | None,
    output_file: Path | None,
    terminal: Terminal,
) -> None:
    """
    Create a token, and print its secret: this once, and nothing else on stdout.

    NAME says who uses it.
    """
    from fairlead_cli.config import write_private
    from fairlead_cli.connecting import connect
    from fairlead_cli.errors import ConfigInvalid

    with connect() as client:
        made = client.create_token(name, role, application=application, expires_seconds=expires)
    if output_file is not None:
        try:
            write_private(output_file, made.token)
        except OSError as error:
            remedy = f"run 'fairlead token revoke {made.id}' and create another"
            raise ConfigInvalid(str(output_file), f"cannot be written: {error.strerror}; {remedy}") from error
        made = made.model_copy(update={"token": f"(in {output_file})"})
    if terminal.is_table and output_file is None:
        terminal.write(made.token)
    elif not terminal.is_table:
        terminal.show(made, [], lambda row: row.id)
    until = f"until {made.expires_at:%Y-%m-%d %H:%M} UTC" if made.expires_at else "for ever"
    terminal.say(f"token {made.id} is {made.role} of {application or 'the whole organization'} {until}")


@token.command(name="list")
@with_output
def list_all(terminal: Terminal) -> None:
    """List the tokens, without their secrets; expired ones too."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        found = list(client.tokens())
    terminal.show_all(found, _columns(), lambda row: row.id)


@token.command()
@click.argument("token_id", metavar="TOKEN-ID", type=NameType("token"))
@with_output
def revoke(token_id: str, terminal: Terminal) -> None:
    """Make a token worthless, at once and for good."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        client.revoke_token(token_id)
    terminal.say(f"token {token_id} is revoked")


def _columns() -> list[Column[Token]]:
    from datetime import UTC, datetime

    from fairlead_cli.lines import age

    now = datetime.now(UTC)
    return [
        Column("Token", lambda row: row.id),
        Column("Name", lambda row: row.name),
        Column("Role", lambda row: row.role),
        Column("Application", lambda row: row.application or "all"),
        Column("Last used", lambda row: age(row.last_used_at, now)),
        Column("Expires", lambda row: row.expires_at or "never"),
        Column("Age", lambda row: age(row.created_at, now), is_wide=True),
    ]
