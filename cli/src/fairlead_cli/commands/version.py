"""`fairlead version`: what the command and its relay are."""

from __future__ import annotations

import click

from fairlead_cli.options import with_output
from fairlead_cli.terminal import Column, Terminal


@click.command()
@with_output
def version(terminal: Terminal) -> None:
    """Print the versions of the command and the relay."""
    from fairlead_cli import __version__
    from fairlead_cli.connecting import connect
    from fairlead_cli.errors import NotLoggedIn
    from fairlead_cli.version_report import VersionReport

    found = VersionReport(fairlead=__version__)
    try:
        client = connect()
    except NotLoggedIn as error:
        terminal.say(f"the relay's version is unknown: {error}")
    else:
        with client:
            relay = client.version()
        found = VersionReport(
            fairlead=__version__, server=client.context.server, relay=relay.relay_version, api=relay.api_version
        )
    columns: list[Column[VersionReport]] = [Column("Fairlead", lambda row: row.fairlead)]
    if found.relay:
        columns += [Column("Relay", lambda row: f"{row.relay} (API {row.api}) at {row.server}")]
    terminal.show(found, columns, lambda row: row.fairlead)
