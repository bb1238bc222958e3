"""
Names that a shell completes, asked of the relay while somebody waits with a finger on Tab.

So it is bounded in time and says nothing when it fails: a completion that cannot be had is none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fairlead_cli.client import Client

COMPLETE_SECONDS = 1.5
"""A relay nearby answers in a tenth of it; after two seconds people have typed on."""

MAX_NAMES = 200
MAX_APPLICATIONS = 20
"""Whose environments are asked for, one call each."""

Names = Callable[["Client", str], Iterable[str]]


def complete(kind: str, ctx: click.Context, incomplete: str) -> list[str]:
    """
    Return what may stand where somebody typed.

    Args:
        kind: What it is the name of; of other kinds than `KINDS` nothing is known.
        ctx: Of the command that is being typed, with its `--context`.
        incomplete: What was typed of it.
    Returns: At most MAX_NAMES names that begin so; empty if nobody answers in time, or where a new name is wanted.
    """
    if kind not in KINDS or ctx.command.name == "create":
        return []
    from fairlead_cli.alarms import alarm_after
    from fairlead_cli.connecting import connect

    try:
        with ctx.scope(cleanup=False), alarm_after(COMPLETE_SECONDS), connect() as client:
            return list(
                islice((name for name in KINDS[kind](client, incomplete) if name.startswith(incomplete)), MAX_NAMES)
            )
    except Exception:  # noqa: BLE001  (whatever it is, a shell that completes has no place for it)
        return []


def contexts(incomplete: str) -> list[str]:
    """Return the stored contexts that begin so; empty if the file cannot be read."""
    from fairlead_cli.config import config_file, read_stored
    from fairlead_cli.errors import CliError

    try:
        return [name for name in read_stored(config_file(os.environ)).contexts if name.startswith(incomplete)]
    except CliError:
        return []


def _clusters(client: Client, _incomplete: str) -> Iterable[str]:
    return (one.name for one in client.clusters())


def _applications(client: Client, _incomplete: str) -> Iterable[str]:
    return (one.name for one in client.applications())


def _addresses(client: Client, incomplete: str) -> Iterable[str]:
    application, slash, _ = incomplete.partition("/")
    names = [application] if slash else [name for name in _applications(client, "") if name.startswith(application)]
    return (f"{name}/{one.name}" for name in names[:MAX_APPLICATIONS] for one in client.environments(name))


KINDS: Mapping[str, Names] = {"cluster": _clusters, "application": _applications, "APP/ENV": _addresses}
