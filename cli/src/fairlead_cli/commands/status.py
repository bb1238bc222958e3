"""`fairlead status`: how an environment is, asked of the cluster now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fairlead_cli.options import AddressArgument, examples, with_refresh
from fairlead_cli.parameters import DurationType, EnvironmentAddress

if TYPE_CHECKING:
    from fairlead_cli.checking import EnvironmentHealth
    from fairlead_cli.refreshing import Listing

WAIT_SECONDS = 30.0
"""A check takes about a second; an agent that is away that long is worth saying so."""


@click.command(
    epilog=examples(
        "fairlead status shop/staging",
        "fairlead status shop/staging --watch",
        "fairlead status shop/staging -o json",
    )
)
@AddressArgument
@click.option(
    "--timeout", type=DurationType(), default=WAIT_SECONDS, help="How long to wait for the agent; 30s if not given."
)
@with_refresh
def status(address: EnvironmentAddress, timeout: float, listing: Listing) -> int:
    """
    Ask the cluster how an environment is, and say why.

    First the verdict, then the cause, then every object. The exit code is 0 if it is healthy, 5 if it is not, and 8
    if it still changes or the agent does not answer.
    """
    from fairlead_cli.checking import check, exit_code, show_health, watch_health
    from fairlead_cli.connecting import connect

    with connect() as client:

        def look() -> EnvironmentHealth:
            return check(client, address.application, address.environment, timeout)

        if listing.is_watched:
            watch_health(listing, look)
        found = look()
    show_health(listing.terminal, found)
    return exit_code(found)
