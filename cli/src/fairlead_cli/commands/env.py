"""`fairlead env`: environments, the running copies of an application."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fairlead_cli.options import AddressArgument, examples, with_output, with_refresh
from fairlead_cli.parameters import EnvironmentAddress, NameType
from fairlead_cli.terminal import Column, Terminal

if TYPE_CHECKING:
    from fairlead_cli.records import Environment
    from fairlead_cli.refreshing import Listing


@click.group()
def env() -> None:
    """Create, list and show environments."""


@env.command(
    epilog=examples(
        "fairlead env create shop/staging --type staging --cluster prod --namespace shop",
    )
)
@AddressArgument
@click.option("--type", "environment_type", type=NameType("type"), required=True, help="For example staging.")
@click.option("--cluster", type=NameType("cluster"), required=True, help="Where it runs.")
@click.option("--namespace", type=NameType("namespace"), required=True, help="Of objects that name none.")
@with_output
def create(
    address: EnvironmentAddress, environment_type: str, cluster: str, namespace: str, terminal: Terminal
) -> None:
    """
    Create an environment.

    The cluster's operator decides whether the namespace may be used: the agent's values must bind it.
    """
    from fairlead_cli.connecting import connect

    with connect() as client:
        made = client.create_environment(
            address.application,
            address.environment,
            environment_type=environment_type,
            cluster=cluster,
            namespace=namespace,
        )
    terminal.show(made, _columns(address.application)[:4], lambda _row: str(address))


@env.command(name="list")
@click.argument("application", metavar="[APP]", required=False, type=NameType("application"))
@with_refresh
def list_all(application: str | None, listing: Listing) -> None:
    """List the environments of one application, or of all."""
    from fairlead_cli.connecting import connect

    with connect() as client:

        def fetch() -> list[Environment]:
            names = [application] if application else [one.name for one in client.applications()]
            return [one.model_copy(update={"application": name}) for name in names for one in client.environments(name)]

        listing.show(fetch, _columns, lambda row: f"{row.application}/{row.name}")


@env.command()
@AddressArgument
@with_output
def show(address: EnvironmentAddress, terminal: Terminal) -> None:
    """Show one environment, with what runs there."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        found = client.environment(address.application, address.environment)
    terminal.show(found, _columns(address.application), lambda _row: str(address))


def _columns(application: str = "") -> list[Column[Environment]]:
    return [
        Column("Name", lambda row: f"{application or row.application}/{row.name}"),
        Column("Type", lambda row: row.type),
        Column("Cluster", lambda row: row.cluster),
        Column("Namespace", lambda row: row.namespace),
        Column("Latest", lambda row: row.latest and row.latest.state),
        Column("Current deployment", lambda row: row.current and row.current.id, is_wide=True),
        Column("Sealing key", lambda row: row.sealing_key and row.sealing_key.fingerprint, is_wide=True),
    ]
