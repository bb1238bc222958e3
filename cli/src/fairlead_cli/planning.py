"""
Asks the agent what a deployment would do, and shows its answer.

The agent compares with the cluster itself, by the API server's dry-run, and changes nothing. Where it cannot be asked
(an older version, a token that may only look) `Unplanned` says why, and the caller compares with the bundle that was
deployed last, which is all that can be known from here (`comparing`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus

from pydantic import BaseModel

from fairlead_cli.alarms import TimeIsUp, alarm_after
from fairlead_cli.bundling import Prepared
from fairlead_cli.client import Client
from fairlead_cli.errors import ApiError, PlanRefused, PlanUnanswered, RelayUnreachable
from fairlead_cli.following import follow
from fairlead_cli.lines import counts_text
from fairlead_cli.records import Environment, Job
from fairlead_cli.story import Story
from fairlead_cli.terminal import Format, Terminal
from fairlead_shared.errors import ErrorCode
from fairlead_shared.jobs import JobState
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import Action, FieldChange, FindingEvent, Outcome

TIMEOUT_SECONDS = 60.0
"""For the agent's answer: some thousand objects are dry-run in ten seconds."""
_GRACE_SECONDS = 5.0
"""How much longer than this command the job waits: as long as it waits, the relay says what for."""
_MOST_SECONDS = 3600.0
_SIGNS = {Action.CREATED: "+", Action.PRUNED: "-", Action.CHANGED: "~", Action.RECREATED: "±"}
_NOT_PLANNED = frozenset({str(ErrorCode.UNSUPPORTED), str(ErrorCode.SIGNATURE)})
"""Refusals that say nothing of the deployment: the agent is older, or wants signatures that nobody gives a plan."""


class Unplanned(Exception):
    """The agent cannot be asked for a plan, and why; what was deployed last can be compared with all the same."""


class PlannedObject(BaseModel):
    """One object, and what a deployment would do to it."""

    object: ObjectRef
    action: Action
    origin: str = ""
    """FILE:LINE; empty for what is no longer named."""
    detail: str = ""
    fields: tuple[FieldChange, ...] = ()
    """What would differ from the live object."""
    fields_left_out: int = 0
    """How many more there are."""

    @property
    def is_changing(self) -> bool:
        """Whether something would be done to it."""
        return self.action in _SIGNS


class Plan(BaseModel):
    """What a deployment would do to an environment, as its agent found out."""

    application: str
    environment: str
    cluster: str
    job_id: str
    is_possible: bool
    """Whether the deployment could be carried out."""
    cause: str = ""
    """Why not, in one sentence."""
    objects: list[PlannedObject]
    findings: list[FindingEvent] = []

    def counts(self) -> dict[str, int]:
        """Return how many objects each action has."""
        return {str(action): sum(one.action is action for one in self.objects) for action in Action}

    @property
    def is_changing(self) -> bool:
        """Whether something would be done."""
        return any(one.is_changing for one in self.objects)


def ask_for_plan(
    client: Client, environment: Environment, prepared: Prepared, consents: Mapping[str, object], timeout_seconds: float
) -> Plan:
    """
    Hand the bundle to the relay, ask for a plan of it, and wait for the agent's answer.

    Args:
        client: The relay.
        environment: With its `application` named.
        prepared: The bundle.
        consents: The request's `consents`, if any.
        timeout_seconds: How long to wait for the agent, > 0.
    Raises: Unplanned: nobody can say. PlanUnanswered: the agent did not answer in time. PlanRefused: its rules say no.
    """
    job = _ask(client, environment, prepared, consents, min(timeout_seconds + _GRACE_SECONDS, _MOST_SECONDS))
    story, planned = Story(), []
    try:
        with alarm_after(timeout_seconds):
            for stored in follow(lambda after: client.job_events(job.id, after), on_drop=_ignore):
                story.take(stored)
                event = stored.event
                if not isinstance(event, dict) and event.type == "planned":
                    planned.append(event)
    except TimeIsUp:
        raise PlanUnanswered(timeout_seconds, _give_up(client, job)) from None
    if story.result is None or not (planned or story.findings or story.is_successful):
        _raise_unplanned(client.job(job.id), timeout_seconds)
    result = story.result
    return Plan(
        application=environment.application,
        environment=environment.name,
        cluster=environment.cluster,
        job_id=job.id,
        is_possible=result is not None and result.outcome is Outcome.SUCCEEDED,
        cause=result.cause if result is not None else "",
        objects=[
            PlannedObject(
                object=event.object,
                action=event.action,
                origin=prepared.origins.get(str(event.object), ""),
                detail=event.detail,
                fields=event.fields,
                fields_left_out=event.fields_left_out,
            )
            for event in planned
        ],
        findings=story.findings,
    )


def show_plan(terminal: Terminal, plan: Plan, *, is_whole: bool) -> None:
    """
    Write a plan to stdout, and what stands against it to stderr.

    Args:
        terminal: Where.
        plan: What to show.
        is_whole: Also what stays as it is; for programs, the plan in place of a list of changes.
    """
    shown = [one for one in plan.objects if is_whole or one.is_changing]
    if terminal.is_table:
        terminal.write_diffs("\n".join(_lines(one)) for one in shown)
    elif is_whole and terminal.format is not Format.NAME:
        terminal.show(plan, [], lambda row: row.environment)
    else:
        terminal.show_all(shown, [], lambda row: str(row.object))
    origins = {str(one.object): one.origin for one in plan.objects if one.origin}
    for finding in plan.findings:
        if finding.severity == "warning":
            terminal.say(f"warning: {finding.object}: {finding.message}" if finding.object else finding.message)
    if not plan.is_possible:
        story = Story(findings=plan.findings)
        first, *others = [plan.cause, *story.reasons(origins)]
        terminal.fail("\n".join([f"it would be refused: {first}", *(f"  {line}" for line in others)]))


def summary(plan: Plan) -> str:
    """Say in one sentence what would happen."""
    return f"{counts_text(plan.counts())}; by the cluster's own dry-run. Nothing was changed."


def dotted(pointer: str) -> str:
    """Write a JSON pointer as people do: `spec.containers[0].image`, `metadata.labels["app.kubernetes.io/name"]`."""
    text = ""
    for escaped in pointer.split("/")[1:]:
        part = escaped.replace("~1", "/").replace("~0", "~")
        if part.isdigit():
            text += f"[{part}]"
        elif part.replace("-", "").replace("_", "").isalnum():
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def _lines(one: PlannedObject) -> Iterator[str]:
    where = f" ({one.origin})" if one.origin else ""
    detail = f": {one.detail}" if one.detail else ""
    yield f"{_SIGNS.get(one.action, ' ')} {one.object}{where} {one.action}{detail}"
    yield from field_lines(one.fields, one.fields_left_out)


def field_lines(fields: Sequence[FieldChange], left_out: int) -> Iterator[str]:
    """Yield a line for each field that differs, and one for those that are left out."""
    for change in fields:
        if change.masked:
            yield f"    {dotted(change.pointer)}: differs (secret)"
        else:
            yield f"    {dotted(change.pointer)}: {change.before or '(none)'} → {change.after or '(none)'}"
    if left_out:
        yield f"    and {left_out} more"


def _ask(
    client: Client, environment: Environment, prepared: Prepared, consents: Mapping[str, object], seconds: float
) -> Job:
    bundle = prepared.bundle
    body = {"bundle_sha256": bundle.sha256, "deadline_seconds": seconds, **consents}
    try:
        if not client.has_bundle(bundle.sha256):
            client.put_bundle(bundle.sha256, bundle.content)
        return client.plan(environment.application, environment.name, body)
    except ApiError as error:
        if error.status == HTTPStatus.FORBIDDEN:
            raise Unplanned(f"this token may not ask for a plan: {error}") from error
        if error.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED} and error.path.endswith("/plans"):
            raise Unplanned("the relay is of a version that knows no plans") from error
        raise


def _raise_unplanned(job: Job, timeout_seconds: float) -> None:
    """Say why there is no plan."""
    cause = job.cause or job.reason or f"its job is {job.state}"
    if job.state is JobState.EXPIRED or job.code == ErrorCode.DEADLINE:
        raise PlanUnanswered(timeout_seconds, cause)
    if job.state is JobState.REFUSED and job.code in _NOT_PLANNED:
        raise Unplanned(f"the agent of cluster {job.cluster} makes no plan: {cause}")
    raise PlanRefused(job.cluster, cause)


def _give_up(client: Client, job: Job) -> str:
    """Cancel a job that nobody waits for any more, and return what it waited for."""
    seen = client.job(job.id)
    with suppress(ApiError):  # it ended at that moment
        client.cancel_job(job.id)
    return seen.reason or f"its job is {seen.state}"


def _ignore(_error: RelayUnreachable) -> None:
    """Say nothing: a plan is short, and its time limit speaks for all."""
