"""
Asks the agent how an environment is, and says it: headline, cause, tree.

The answer is made by a `health` job in the cluster, now; what the relay remembers is used only while the agent is away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from pydantic import BaseModel

from fairlead_cli.alarms import TimeIsUp, alarm_after
from fairlead_cli.client import Client
from fairlead_cli.errors import ExitCode, RelayUnreachable
from fairlead_cli.following import follow
from fairlead_cli.lines import drift_text
from fairlead_cli.records import Deployment, DriftSummary
from fairlead_cli.refreshing import Listing
from fairlead_cli.story import Story
from fairlead_cli.terminal import Format, Terminal
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import HealthStatus

CHECK_SECONDS = 5.0
"""Between two checks of one who watches: each is a job of the agent, who reads every object for it."""
MAX_CHECK_SECONDS = 3600.0
"""The longest that the relay keeps a check for an absent agent."""


class ObjectHealth(BaseModel):
    """One object of the environment."""

    object: ObjectRef
    status: HealthStatus
    cause: str = ""


class EnvironmentHealth(BaseModel):
    """How an environment is."""

    application: str
    environment: str
    health: HealthStatus | None
    """The worst of its objects'; None if nothing is deployed or nobody answered."""
    cause: str
    """One sentence; empty when all is well."""
    is_answered: bool
    """Whether the agent answered in time."""
    latest: Deployment | None
    drift: DriftSummary | None
    """How far it is from its last deployment, as the agent said last; None if it did not, or does not look."""
    origins: dict[str, str]
    """Object → FILE:LINE, as written for the deployment that runs."""
    objects: list[ObjectHealth]
    """Those to look at first, first."""


def check(client: Client, application: str, environment: str, timeout_seconds: float) -> EnvironmentHealth:
    """
    Have the agent look at an environment's objects.

    Args:
        client: The relay.
        application: The application.
        environment: The environment.
        timeout_seconds: How long to wait for the agent, > 0.
    """
    known = client.environment(application, environment)
    job_id = client.check_health(application, environment, min(timeout_seconds, MAX_CHECK_SECONDS)).job_id
    story = Story()
    try:
        with alarm_after(timeout_seconds):
            for stored in follow(lambda after: client.job_events(job_id, after), on_drop=_ignore):
                story.take(stored)
    except TimeIsUp:
        is_answered = False
    else:
        is_answered = story.result is not None
    running = client.deployment(known.current.id) if known.current else None  # here it comes with its origins
    return EnvironmentHealth(
        application=application,
        environment=environment,
        health=story.health,
        cause=_cause(client, job_id, story, is_answered=is_answered),
        is_answered=is_answered,
        latest=known.latest,
        drift=known.drift,
        origins=(running.origins if running else None) or {},
        objects=[
            ObjectHealth(object=ref, status=told.health, cause=told.cause)
            for ref, told in story.sorted_objects()
            if told.health is not None
        ],
    )


def exit_code(found: EnvironmentHealth) -> ExitCode:
    """Return the exit code that a health means."""
    if not found.is_answered:
        return ExitCode.PENDING
    match found.health:
        case HealthStatus.HEALTHY | HealthStatus.SUSPENDED:
            return ExitCode.OK
        case None:
            return ExitCode.FAILED if found.cause else ExitCode.OK
        case HealthStatus.PROGRESSING:
            return ExitCode.PENDING
        case _:
            return ExitCode.FAILED


def show_health(terminal: Terminal, found: EnvironmentHealth) -> None:
    """Write the answer to stdout: headline, cause, objects; or as `-o` asks."""
    if not terminal.is_table:
        terminal.show(found, [], lambda row: f"{row.application}/{row.environment}")
        return
    terminal.write(f"{found.application}/{found.environment}: {_headline(found)}")
    if found.cause:
        terminal.write(f"cause: {found.cause}")
    if found.latest:
        terminal.write(f"latest deployment: {found.latest.id} {found.latest.state}")
    if found.drift and found.drift.objects:
        named = f"{found.application}/{found.environment}"
        terminal.write(f"drift: {drift_text(found.drift)}; see 'fairlead drift {named}'")
    for index, one in enumerate(found.objects):
        branch = "└──" if index == len(found.objects) - 1 else "├──"
        origin = found.origins.get(str(one.object)) if one.cause else None
        where = f" ({origin})" if origin else ""
        cause = f": {one.cause}" if one.cause else ""
        terminal.write(f"{branch} {one.object}{where}  {one.status}{cause}")


def watch_health(listing: Listing, look: Callable[[], EnvironmentHealth]) -> NoReturn:
    """
    Show an environment's health until Ctrl-C: drawn anew for a person, whenever it changed for a pipe.

    Args:
        listing: How it is shown.
        look: Asks the agent.
    Raises: RelayUnreachable: no answer for too long.
    """
    last = ""

    def take(found: EnvironmentHealth) -> None:
        nonlocal last
        line = found.model_dump_json()
        if listing.clear():
            show_health(listing.terminal, found)
        elif line != last and listing.terminal.format is Format.JSON:
            listing.terminal.write(line)
        elif line != last:
            show_health(listing.terminal, found)
        last = line

    listing.repeat(look, take, CHECK_SECONDS)


def _headline(found: EnvironmentHealth) -> str:
    if not found.is_answered:
        return "no answer from its agent"
    if found.health is None:
        return "could not be checked" if found.cause else "nothing is deployed"
    return found.health.value


def _cause(client: Client, job_id: str, story: Story, *, is_answered: bool) -> str:
    """Say in one sentence why it is not well, or why nobody knows."""
    if not is_answered:
        job = client.job(job_id)
        return job.cause or job.reason or story.reason or f"the health check is {job.state}"
    bad = next((told.cause for _, told in story.sorted_objects() if told.cause), "")
    return bad or (story.result.cause if story.result else "")


def _ignore(_error: RelayUnreachable) -> None:
    """Say nothing: a check is short, and its time limit speaks for all."""
