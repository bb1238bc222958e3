"""
What the events of one job add up to: steps, objects, findings, result; and the reason, in one sentence, when it failed.

Pure: events in, facts out. How they look is `live`'s and `lines`' business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fairlead_cli.records import JobStateEvent, StoredEvent
from fairlead_shared.jobs import JobState
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import (
    Action,
    FindingEvent,
    HealthEvent,
    HealthStatus,
    ObjectEvent,
    Outcome,
    ResultEvent,
    Step,
    StepEvent,
)

WORST_FIRST = (
    HealthStatus.DEGRADED,
    HealthStatus.MISSING,
    HealthStatus.UNKNOWN,
    HealthStatus.PROGRESSING,
    HealthStatus.SUSPENDED,
    HealthStatus.HEALTHY,
)


@dataclass(slots=True)
class StepStory:
    """One stage of the job."""

    started_at: float
    """Seconds since the epoch, by the agent's clock, as all times here."""
    finished_at: float | None = None
    is_failed: bool = False
    detail: str = ""


@dataclass(slots=True)
class ObjectStory:
    """One object of the job."""

    action: Action | None = None
    detail: str = ""
    health: HealthStatus | None = None
    cause: str = ""
    since: float = 0.0
    """When its health, or else its action, was reported."""

    @property
    def is_bad(self) -> bool:
        """Whether it keeps the job from being well."""
        return self.action is Action.FAILED or self.health in {HealthStatus.DEGRADED, HealthStatus.MISSING}

    @property
    def is_settled(self) -> bool:
        """Whether nothing more is expected of it."""
        return self.health is HealthStatus.HEALTHY or self.action is Action.PRUNED


@dataclass(slots=True)
class Story:
    """One job so far."""

    steps: dict[Step, StepStory] = field(default_factory=dict)
    objects: dict[ObjectRef, ObjectStory] = field(default_factory=dict)
    findings: list[FindingEvent] = field(default_factory=list)
    result: ResultEvent | None = None
    state: JobState | None = None
    reason: str = ""
    """Why the job waits, as the relay says."""
    attempt: int = 0
    job_id: str = ""
    """Of the last event; a deployment that is retried has another job for each try."""
    position: int = 0
    """Of the last event, from which a stream goes on; 0 before the first."""

    def take(self, stored: StoredEvent) -> None:
        """Add the next event; of a type that this version does not know only the position counts."""
        event = stored.event
        self.position = stored.id
        if stored.job_id != self.job_id:
            # What went wrong in an earlier try is not what goes wrong now.
            self.steps, self.objects, self.findings, self.result = {}, {}, [], None
            self.job_id = stored.job_id
        match event:
            case JobStateEvent():
                self.state, self.reason, self.attempt = event.state, event.reason or "", event.attempt
            case StepEvent():
                self._take_step(event)
            case ObjectEvent():
                told = self.objects.setdefault(event.object, ObjectStory())
                told.action, told.detail = event.action, event.detail
                told.since = told.since or event.at
            case HealthEvent():
                told = self.objects.setdefault(event.object, ObjectStory())
                told.health, told.cause, told.since = event.status, event.cause, event.at
            case FindingEvent():
                self.findings.append(event)
            case ResultEvent():
                self.result = event
            case _:
                pass

    def _take_step(self, event: StepEvent) -> None:
        if event.status == "started":
            self.steps[event.step] = StepStory(event.at, detail=event.detail)
            return
        told = self.steps.setdefault(event.step, StepStory(event.at))
        told.finished_at, told.is_failed = event.at, event.status == "failed"
        told.detail = event.detail or told.detail

    @property
    def health(self) -> HealthStatus | None:
        """The worst health of any object; None while none is known."""
        known = {told.health for told in self.objects.values()}
        return next((status for status in WORST_FIRST if status in known), None)

    @property
    def is_successful(self) -> bool:
        """Whether the job is over and well."""
        return self.result is not None and self.result.outcome is Outcome.SUCCEEDED

    def errors(self) -> list[FindingEvent]:
        """Return the findings that stop the job."""
        return [finding for finding in self.findings if finding.severity == "error"]

    def sorted_objects(self) -> list[tuple[ObjectRef, ObjectStory]]:
        """Return the objects, those to look at first: bad, then unsettled, then the rest; by name within each."""
        return sorted(
            self.objects.items(),
            key=lambda pair: (not pair[1].is_bad, pair[1].is_settled, pair[0].kind, pair[0].namespace, pair[0].name),
        )

    def reasons(self, origins: Mapping[str, str]) -> list[str]:
        """
        Say why the job failed, the one sentence first, then each object to blame with where it was written.

        Args:
            origins: Object → FILE:LINE.
        Returns: Lines; empty if nothing is wrong.
        """
        lines = [self.result.cause] if self.result is not None and self.result.cause else []
        blamed: set[ObjectRef] = set()
        for finding in self.errors():
            lines += _finding_lines(finding, origins)
            blamed |= {finding.object} if finding.object else set()
        for ref, told in self.sorted_objects():
            if told.is_bad and ref not in blamed:
                said = told.cause or told.detail or (told.health or Action.FAILED).value
                lines.append(f"{placed(ref, origins)}: {said}")
        return lines


def placed(ref: ObjectRef, origins: Mapping[str, str]) -> str:
    """Name an object, with where it was written if that is known."""
    origin = origins.get(str(ref))
    return f"{ref} ({origin})" if origin else str(ref)


def _finding_lines(finding: FindingEvent, origins: Mapping[str, str]) -> list[str]:
    where = f"{placed(finding.object, origins)}: " if finding.object else ""
    field_path = f"{finding.field}: " if finding.field else ""
    lines = [f"{where}{field_path}{finding.message} ({finding.code})"]
    if finding.remedy:
        lines += [f"  {line}" for line in finding.remedy.splitlines()]
    return lines
