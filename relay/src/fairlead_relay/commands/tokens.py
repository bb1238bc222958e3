"""`fairlead-relay token`: tokens for people and CI, also while the relay serves."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Final

import click

from fairlead_relay.commands.acting import command_actor
from fairlead_relay.commands.settings_options import data_dir_option, make_settings
from fairlead_shared.errors import NameInvalid
from fairlead_shared.identity import check_name

_LONGEST_NAME: Final = 100
"""As in the API."""
_UNITS: Final = {"m": 60.0, "h": 3600.0, "d": 86_400.0}


class Duration(click.ParamType[float | None]):
    """A time such as `90d`, `12h` or `30m`, in seconds; None for `never`."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """Read one value."""
        if value is None or value == "never":
            return None
        match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", str(value))
        if match is None:
            self.fail("write a number and m, h or d, such as 90d, or never", param, ctx)
        return int(match[1]) * _UNITS[match[2]]


@click.group()
def token() -> None:
    """Create tokens for people and CI."""


@token.command()
@data_dir_option
@click.option("--organization", required=True, help="Created if it does not exist.")
@click.option(
    "--role",
    type=click.Choice(["admin", "deployer", "viewer"]),
    required=True,
    help="admin creates things, deployer deploys, viewer reads.",
)
@click.option("--application", help="The only application that it is good for.  [default: the whole organization]")
@click.option(
    "--name", default="", metavar="TEXT", help="What people call it, such as who uses it; at most 100 letters."
)
@click.option("--expires", type=Duration(), default="90d", show_default=True, help="Life, such as 90d; or never.")
@click.option(
    "--output-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the token there (mode 0600) and not to standard output.",
)
def create(
    data_dir: Path | None,
    organization: str,
    role: str,
    application: str | None,
    name: str,
    expires: float | None,
    output_file: Path | None,
) -> None:
    """
    Create a token and print it, this once.

    Example: fairlead-relay token create --organization acme --role admin | fairlead login https://relay.example.com:7443
    """
    settings = make_settings(data_dir=data_dir)
    try:
        check_name("organization", organization)
        if application is not None:
            check_name("application", application)
    except NameInvalid as error:
        raise click.UsageError(str(error)) from error
    if len(name) > _LONGEST_NAME:
        raise click.UsageError(f"--name: {len(name)} letters are more than {_LONGEST_NAME}")
    from sqlalchemy import Connection  # noqa: PLC0415

    from fairlead_relay.data_directory import DataDirectory  # noqa: PLC0415
    from fairlead_relay.pki.access_tokens import AccessToken  # noqa: PLC0415
    from fairlead_relay.pki.private_files import write_private  # noqa: PLC0415
    from fairlead_relay.store import Store  # noqa: PLC0415
    from fairlead_relay.store.audit import Entry, append_records  # noqa: PLC0415
    from fairlead_relay.store.organizations import ensure_organization  # noqa: PLC0415
    from fairlead_relay.store.tokens import ApiToken, Role, audited_token, create_token  # noqa: PLC0415

    made = AccessToken.generate()
    now = time.time()

    def write(connection: Connection) -> None:
        ensure_organization(connection, organization, now)
        expires_at = None if expires is None else now + expires
        token = ApiToken(
            made.token_id,
            organization,
            Role(role),
            made.secret_sha256,
            now,
            expires_at,
            name=name,
            application=application,
        )
        create_token(connection, token)
        actor = command_actor("token create")
        after = audited_token(token)
        append_records(connection, [Entry(organization, actor, "token.create", f"token/{token.id}", after=after)], now)

    async def run() -> None:
        DataDirectory(settings.data_dir)
        store = Store(settings.database, lambda *_: None)
        await store.start()
        try:
            await store.write(write)
        finally:
            await store.stop()

    asyncio.run(run())
    if output_file is None:
        click.echo(made.text)
        return
    try:
        write_private(output_file, f"{made.text}\n".encode())
    except OSError as error:
        raise click.ClickException(
            f"the token was created but not written to {output_file}: {error.strerror}"
        ) from error
