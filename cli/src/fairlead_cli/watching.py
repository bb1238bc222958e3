"""
Watches one deployment to its end, shows it, and says how it ended: the reason first, then the exit code.

The deployment is the relay's: losing the connection, Ctrl-C and a time limit end the watching, not the deployment. Only
a person who presses Ctrl-C twice, and then says so, cancels it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import click

from fairlead_cli.alarms import TimeIsUp, alarm_after
from fairlead_cli.client import Client
from fairlead_cli.errors import ApiError, ExitCode, RelayUnreachable
from fairlead_cli.following import Stream, follow
from fairlead_cli.lines import counts_text, duration, line_of
from fairlead_cli.records import Deployment, Job
from fairlead_cli.story import Story
from fairlead_cli.terminal import Terminal
from fairlead_shared.errors import ErrorCode
from fairlead_shared.jobs import JobState

GRACE_SECONDS = 5.0
"""After the time limit, which the relay and the agent keep too: their verdict says why, ours would not."""

OFFER_SECONDS = 5.0
"""Between detaching and the end of the command, in which a second Ctrl-C counts: time to read two sentences."""


def watch(
    client: Client, terminal: Terminal, deployment: Deployment, timeout_seconds: float | None, *, after: int = 0
) -> ExitCode:
    """
    Show a deployment until it ends.

    Args:
        client: The relay.
        terminal: Where to show it.
        deployment: As it was last seen.
        timeout_seconds: How long to watch at most, from now; None for ever.
        after: Leave out events up to this position: those of an earlier try.
    Returns: The exit code that says how it ended.
    """
    return _watch(client, terminal, deployment, Story(position=after), timeout_seconds)


def _watch(
    client: Client, terminal: Terminal, deployment: Deployment, story: Story, timeout_seconds: float | None
) -> ExitCode:
    """Show what a story does not have yet, until it ends."""
    limit = None if timeout_seconds is None else timeout_seconds + GRACE_SECONDS
    title = f"{deployment.application}/{deployment.environment} on {deployment.cluster}: {deployment.id}"
    shown = _Shown(title, deployment.origins or {}, partial(client.deployment_events, deployment.id))
    try:
        with alarm_after(limit):
            _show(terminal, shown, story)
            ended = client.deployment(deployment.id)
    except KeyboardInterrupt:
        return _detach(client, terminal, deployment, story)
    except RelayUnreachable as error:
        terminal.fail(f"{error}. The deployment goes on without us. {_resume(deployment)}")
        return ExitCode.PENDING
    except TimeIsUp:
        reasons = [story.reason, *story.reasons(deployment.origins or {})]
        said = next((reason for reason in reasons if reason), "it has not ended yet")
        terminal.fail(f"the time limit of {duration(timeout_seconds or 0)} is reached: {said}. {_resume(deployment)}")
        return ExitCode.CANCELLED
    code = report(terminal, ended, story)
    _follow_rollback(client, terminal, ended, timeout_seconds)
    return code


def _follow_rollback(client: Client, terminal: Terminal, failed: Deployment, timeout_seconds: float | None) -> None:
    """Show how a failure is rolled back, or say why it is not; what was asked for has failed all the same."""
    if failed.rollback_skipped:
        terminal.say(f"not rolled back: {failed.rollback_skipped}")
    elif failed.rolled_back_by:
        terminal.say(f"rolling back: deployment {failed.rolled_back_by}")
        watch(client, terminal, client.deployment(failed.rolled_back_by), timeout_seconds)


def watch_and_show(
    client: Client, terminal: Terminal, deployment: Deployment, timeout_seconds: float | None, *, after: int = 0
) -> ExitCode:
    """Watch a deployment; for programs (`-o json` and the like), write it to stdout as it is at the end."""
    code = watch(client, terminal, deployment, timeout_seconds, after=after)
    if not terminal.is_table:
        terminal.show(client.deployment(deployment.id), [], lambda row: row.id)
    return code


def report(terminal: Terminal, deployment: Deployment, story: Story) -> ExitCode:
    """Say how a deployment ended, and return the exit code for it."""
    code = exit_code(deployment)
    named = f"deployment {deployment.id} of {deployment.application}/{deployment.environment}"
    if code is ExitCode.OK:
        now = deployment.finished_at or datetime.now(UTC)
        took = duration((now - deployment.created_at).total_seconds())
        terminal.say(f"{named} succeeded in {took}: {counts_text(deployment.counts or {})}")
        return code
    if code is ExitCode.PENDING:
        terminal.fail(f"{named} is still {deployment.state}. {_resume(deployment)}")
        return code
    reasons = story.reasons(deployment.origins or {})
    if deployment.cause and deployment.cause not in reasons:
        reasons.insert(0, deployment.cause)
    first, *others = reasons or [deployment.reason or f"see 'fairlead events {deployment.id}'"]
    terminal.fail("\n".join([f"{named}: {deployment.state}: {first}", *(f"  {line}" for line in others)]))
    return code


def watch_job(client: Client, terminal: Terminal, job: Job, title: str) -> ExitCode:
    """
    Show a job that is no deployment until it ends.

    Args:
        client: The relay.
        terminal: Where to show it.
        job: As it was last seen.
        title: What it does, such as `deletion of shop/staging`.
    Returns: The exit code that says how it ended.
    """
    story = Story()
    opened = partial(client.job_events, job.id)
    resume = f"The {title} goes on: 'fairlead jobs show {job.id}', 'fairlead jobs cancel {job.id}'"
    try:
        _show(terminal, _Shown(f"{title}: {job.id}", {}, opened), story)
        ended = client.job(job.id)
    except KeyboardInterrupt:
        terminal.say(f"\ndetached. {resume}")
        return ExitCode.PENDING
    except RelayUnreachable as error:
        terminal.fail(f"{error}. {resume}")
        return ExitCode.PENDING
    code = exit_code(ended)
    if code is ExitCode.OK:
        terminal.say(f"{title} succeeded: {counts_text(ended.counts or {})}")
    elif code is ExitCode.PENDING:
        terminal.fail(resume)
    else:
        first, *others = [*story.reasons({}), ended.cause or ended.reason or f"see 'fairlead jobs show {job.id}'"]
        terminal.fail("\n".join([f"{title}: {ended.state}: {first}", *(f"  {line}" for line in others)]))
    return code


def exit_code(deployment: Deployment | Job) -> ExitCode:
    """Return the exit code that the state of a deployment or a job means."""
    match deployment.state:
        case JobState.SUCCEEDED:
            return ExitCode.OK
        case JobState.CANCELLED | JobState.EXPIRED:
            return ExitCode.CANCELLED
        case JobState.SUPERSEDED:
            return ExitCode.SUPERSEDED
        case JobState.FAILED | JobState.REFUSED:
            return ExitCode.CANCELLED if deployment.code == ErrorCode.DEADLINE else ExitCode.FAILED
        case _:
            return ExitCode.PENDING


def is_person_there() -> bool:
    """Tell whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _detach(client: Client, terminal: Terminal, deployment: Deployment, story: Story) -> ExitCode:
    """Say that the watching ends; give a person a moment to cancel, and if they do, watch on to its end."""
    is_offered = not terminal.is_quiet and is_person_there()
    try:  # around all of it: the second Ctrl-C may come while the first is answered
        terminal.say(f"\ndetached: the deployment goes on. {_resume(deployment)}")
        if is_offered:
            terminal.say("Ctrl-C again to cancel the deployment …")
            time.sleep(OFFER_SECONDS)
    except KeyboardInterrupt:
        pass
    else:
        return ExitCode.PENDING
    if not is_offered:
        return ExitCode.PENDING
    try:
        if not click.confirm(f"\nCancel deployment {deployment.id}?", err=True):
            return ExitCode.PENDING
    except click.Abort:  # Ctrl-C, or the terminal is gone
        return ExitCode.PENDING
    try:
        client.cancel(deployment.id)
    except ApiError as error:
        terminal.fail(str(error))  # it may have ended meanwhile: how, is said below
    return _watch(client, terminal, deployment, story, None)


def _resume(deployment: Deployment) -> str:
    return (
        f"See it with 'fairlead deployments show {deployment.id} --watch', "
        f"stop it with 'fairlead deployments cancel {deployment.id}'"
    )


@dataclass(frozen=True, slots=True)
class _Shown:
    """What is watched."""

    title: str
    origins: Mapping[str, str]
    opened: Stream


def _show(terminal: Terminal, shown: _Shown, story: Story) -> None:
    """Take in the events until the story ends, drawn as a tree or printed as lines."""
    view = drawing = None
    if terminal.is_live:
        from fairlead_cli.live import StoryView, draw_live

        view = StoryView(shown.title, story, shown.origins)
        drawing = draw_live(terminal.console(), view)

    def notify(error: RelayUnreachable) -> None:
        if view is not None:
            view.notice = "(connection lost, trying again)"
        else:
            terminal.say(f"{error}; trying again")

    with drawing or nullcontext():
        for stored in follow(shown.opened, on_drop=notify, after=story.position):
            if view is not None:
                view.notice = ""
            elif terminal.is_table and not terminal.is_quiet:
                terminal.write(line_of(stored, story))
            story.take(stored)
