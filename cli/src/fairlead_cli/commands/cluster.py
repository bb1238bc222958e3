"""`fairlead cluster`: clusters, and the enrolment of their agents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fairlead_cli.options import LabelOption, SelectorOption, examples, with_output, with_refresh
from fairlead_cli.parameters import NameType
from fairlead_cli.terminal import Column, Terminal

if TYPE_CHECKING:
    from fairlead_cli.records import Cluster, Enrolment
    from fairlead_cli.refreshing import Listing

NameArgument = click.argument("name", type=NameType("cluster"))
TokenFileOption = click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the enrolment token there, readable by you only, and do not print it.",
)


@click.group()
def cluster() -> None:
    """Create, list and show clusters, and enrol their agents."""


@cluster.command(
    epilog=examples(
        "fairlead cluster create prod --token-file token",
        "fairlead cluster create prod -o json",
    )
)
@NameArgument
@TokenFileOption
@click.option("--require-approval", is_flag=True, help="Let an agent in only after 'fairlead cluster approve'.")
@LabelOption
@with_output
def create(
    name: str,
    token_file: Path | None,
    require_approval: bool,  # noqa: FBT001  (click passes by name)
    labels: tuple[tuple[str, str], ...],
    terminal: Terminal,
) -> None:
    """
    Create a cluster, with a token its agent enrols with.

    The token works once and for an hour at most. It is a secret: give it to the agent in a file or a Kubernetes Secret,
    not on a command line.
    """
    from fairlead_cli.connecting import connect

    with connect() as client:
        made = client.create_cluster(name, require_approval=require_approval, labels=dict(labels))
    terminal.say(f"cluster {made.cluster.name} created; it is pending until its agent enrols")
    if require_approval:
        terminal.say(f"its agent then waits for approval: 'fairlead cluster show {name}' shows the key's fingerprint")
    _show_enrolment(terminal, name, made.enrolment, token_file)


@cluster.command(
    epilog=examples(
        "fairlead cluster enrol prod --token-file token",
    )
)
@NameArgument
@TokenFileOption
@with_output
def enrol(name: str, token_file: Path | None, terminal: Terminal) -> None:
    """Make another enrolment token for a cluster's agent."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        made = client.create_enrolment(name)
    _show_enrolment(terminal, name, made, token_file)


@cluster.command(name="list")
@SelectorOption
@with_refresh
def list_all(selector: str, listing: Listing) -> None:
    """List the clusters."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        listing.show(lambda: list(client.clusters(selector)), _columns, lambda row: row.name)


@cluster.command()
@NameArgument
@with_output
def show(name: str, terminal: Terminal) -> None:
    """Show one cluster, with its agent and the fingerprint of its sealing key."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        found = client.cluster(name)
    columns = _columns()
    if found.approval is not None:
        columns.insert(2, Column("Waits for approval", lambda row: row.approval and row.approval.fingerprint))
    terminal.show(found, columns, lambda row: row.name)


@cluster.command()
@NameArgument
@with_output
def disable(name: str, terminal: Terminal) -> None:
    """
    Disconnect a cluster's agent within seconds and let none in.

    What the agent was doing in the cluster goes on to its end; nothing new reaches it. 'enable' undoes it.
    """
    from fairlead_cli.connecting import connect

    with connect() as client:
        found = client.disable_cluster(name)
    terminal.say(f"cluster {name} is disabled")
    terminal.show(found, _columns(), lambda row: row.name)


@cluster.command()
@NameArgument
@with_output
def enable(name: str, terminal: Terminal) -> None:
    """Let the agent of a disabled cluster in again; it comes by itself."""
    from fairlead_cli.connecting import connect

    with connect() as client:
        found = client.enable_cluster(name)
    terminal.say(f"cluster {name} is enabled")
    terminal.show(found, _columns(), lambda row: row.name)


@cluster.command(epilog=examples("fairlead cluster approve prod SHA256:2jmj7l5rSw0yVb/vlWAYkK/YBwk="))
@NameArgument
@click.argument("fingerprint")
@with_output
def approve(name: str, fingerprint: str, terminal: Terminal) -> None:
    """
    Let the agent in that waits, if its key has this FINGERPRINT.

    Take the fingerprint from the cluster, not from here: 'fairlead-agent keys' and the agent's log show it there.
    """
    from fairlead_cli.connecting import connect

    with connect() as client:
        found = client.approve_agent(name, fingerprint)
    terminal.say(f"the agent of cluster {name} is approved; it enrols within seconds")
    terminal.show(found, _columns(), lambda row: row.name)


def _columns() -> list[Column[Cluster]]:
    from datetime import UTC, datetime

    from fairlead_cli.lines import age

    now = datetime.now(UTC)
    return [
        Column("Name", lambda row: row.name),
        Column("State", lambda row: row.state),
        Column("Agent", lambda row: row.agent and row.agent.version),
        Column("Kubernetes", lambda row: row.agent and row.agent.kubernetes_version),
        Column("Last seen", lambda row: age(row.agent.last_seen_at if row.agent else None, now)),
        Column("Age", lambda row: age(row.created_at, now)),
        Column("Labels", lambda row: row.labels_text, is_wide=True),
        Column("Certificate expires", lambda row: row.agent and row.agent.certificate_expires_at, is_wide=True),
        Column(
            "Sealing key",
            lambda row: row.agent and row.agent.sealing_key and row.agent.sealing_key.fingerprint,
            is_wide=True,
        ),
    ]


def _show_enrolment(terminal: Terminal, name: str, enrolment: Enrolment, token_file: Path | None) -> None:
    from fairlead_cli.config import write_private
    from fairlead_cli.errors import ConfigInvalid

    columns: list[Column[Enrolment]] = [
        Column("Agent URL", lambda row: row.agent_url),
        Column("Token expires", lambda row: row.expires_at),
    ]
    if token_file is None:
        columns.append(Column("Token", lambda row: row.token))
    else:
        try:
            write_private(token_file, enrolment.token)
        except OSError as error:
            remedy = f"make another with 'fairlead cluster enrol {name}'"
            raise ConfigInvalid(str(token_file), f"the token cannot be written: {error.strerror}; {remedy}") from error
        enrolment = enrolment.model_copy(update={"token": f"(in {token_file})"})
    terminal.show(enrolment, columns, lambda _row: name)
