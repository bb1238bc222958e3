"""
Names and ids that a shell completes, asked of the relay while somebody waits with a finger on Tab.

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
    from fairlead_cli.records import Job

COMPLETE_SECONDS = 1.5
"""A relay nearby answers in a tenth of it; after two seconds people have typed on."""

MAX_NAMES = 200
MAX_IDS = 50
"""The newest: whoever wants an older one has it from a list."""
MAX_APPLICATIONS = 20
"""Whose environments are asked for, one call each."""

STATES_FOR: Mapping[str, list[str]] = {
    "cancel": ["queued", "leased", "running", "cancelling", "unreachable"],
    "retry": ["failed", "refused", "expired", "cancelled"],
}
"""Of jobs, and so of their deployments, that a command can do something with."""

Names = Callable[["Client", str, str], Iterable[tuple[str, str]]]
"""Of client, what was typed and the command's name: names, each with a word on it."""


def complete(kind: str, ctx: click.Context, incomplete: str) -> list[tuple[str, str]]:
    """
    Return what may stand where somebody typed.

    Args:
        kind: What it is the name of; of other kinds than `KINDS` nothing is known.
        ctx: Of the command that is being typed, with its `--context`.
        incomplete: What was typed of it.
    Returns: At most MAX_NAMES names that begin so, each with a word on it that may be empty; none if nobody answers in
        time, or where a new name is wanted.
    """
    if kind not in KINDS or ctx.command.name == "create":
        return []
    from fairlead_cli.alarms import alarm_after
    from fairlead_cli.connecting import connect

    try:
        with ctx.scope(cleanup=False), alarm_after(COMPLETE_SECONDS), connect() as client:
            found = KINDS[kind](client, incomplete, ctx.command.name or "")
            return list(islice((one for one in found if one[0].startswith(incomplete)), MAX_NAMES))
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


def _clusters(client: Client, _incomplete: str, _command: str) -> Iterable[tuple[str, str]]:
    return ((one.name, one.state) for one in client.clusters())


def _applications(client: Client, _incomplete: str, _command: str) -> Iterable[tuple[str, str]]:
    return ((one.name, "") for one in client.applications())


def _addresses(client: Client, incomplete: str, _command: str) -> Iterable[tuple[str, str]]:
    application, slash, _ = incomplete.partition("/")
    found = [application] if slash else [one.name for one in client.applications() if one.name.startswith(application)]
    return ((f"{name}/{one.name}", one.type) for name in found[:MAX_APPLICATIONS] for one in client.environments(name))


def _jobs(client: Client, _incomplete: str, command: str) -> Iterable[tuple[str, str]]:
    return ((one.id, f"{one.kind} {_word(one)}") for one in _newest(client, command))


def _deployments(client: Client, _incomplete: str, command: str) -> Iterable[tuple[str, str]]:
    """Return those whose job is the newest: a list of deployments is one of an environment."""
    words: dict[str, str] = {}
    for one in _newest(client, command):
        if one.deployment_id:
            words.setdefault(one.deployment_id, _word(one))
    return words.items()


def _newest(client: Client, command: str) -> Iterable[Job]:
    states = STATES_FOR.get(command)
    return client.jobs({"state": states} if states else {}, MAX_IDS)


def _word(job: Job) -> str:
    where = f"{job.application}/{job.environment}" if job.application else job.cluster
    return f"{where} {job.state}"


KINDS: Mapping[str, Names] = {
    "cluster": _clusters,
    "application": _applications,
    "APP/ENV": _addresses,
    "DEPLOYMENT": _deployments,
    "JOB": _jobs,
}
