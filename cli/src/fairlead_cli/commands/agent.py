"""`fairlead agent`: the agents that serve clusters, and their revocation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fairlead_cli.options import with_output, with_refresh
from fairlead_cli.parameters import NameType
from fairlead_cli.terminal import Column, Terminal

if TYPE_CHECKING:
    from fairlead_cli.records import AgentOfCluster
    from fairlead_cli.refreshing import Listing

ClusterArgument = click.argument("cluster", type=NameType("cluster"))


@click.group()
def agent() -> None:
    """List, show and revoke agents; each is named by its cluster."""


@agent.command(name="list")
@with_refresh
def list_all(listing: Listing) -> None:
    """
    List the agents that have enrolled, with their versions beside the relay's.

    Supported are agents of the relay's minor release and of the one before; relays are upgraded first.
    """
    from fairlead_cli.connecting import connect

    with connect() as client:
        listing.show(lambda: list(client.agents()), _columns, lambda row: row.cluster)


@agent.command()
@ClusterArgument
@with_output
def show(cluster: str, terminal: Terminal) -> None:
    """Show the agent of a cluster, with its certificate."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        found = client.agent(cluster)
    terminal.show(found, _columns(), lambda row: row.cluster)


@agent.command()
@ClusterArgument
@with_output
def revoke(cluster: str, terminal: Terminal) -> None:
    """
    Disconnect an agent within seconds and make its certificates worthless.

    It comes back only with a new token, from 'fairlead cluster enrol', and then makes a new key. To keep a cluster's
    agent away for a while, use 'fairlead cluster disable'.
    """
    from fairlead_cli.connecting import connect

    with connect() as client:
        found = client.revoke_agent(cluster)
    terminal.say(f"the agent of cluster {cluster} is revoked; 'fairlead cluster enrol {cluster}' lets another in")
    terminal.show(found, _columns(), lambda row: row.cluster)


def _columns() -> list[Column[AgentOfCluster]]:
    from datetime import UTC, datetime

    from fairlead_cli.lines import age

    now = datetime.now(UTC)
    return [
        Column("Cluster", lambda row: row.cluster),
        Column("State", lambda row: row.state),
        Column("Version", lambda row: row.version),
        Column("Skew", lambda row: row.skew.replace("_", " ")),
        Column("Kubernetes", lambda row: row.kubernetes_version),
        Column("Last seen", lambda row: age(row.last_seen_at, now)),
        Column("Certificate expires", lambda row: row.certificate_expires_at),
        Column("Certificate serial", lambda row: row.certificate_serial, is_wide=True),
        Column("Revoked at", lambda row: row.revoked_at, is_wide=True),
        Column("Sealing key", lambda row: row.sealing_key and row.sealing_key.fingerprint, is_wide=True),
    ]
