"""
Progress events: the numbered steps of a job's story, made by the agent, stored by the relay, shown by CLI and UI.

An event's `key` names the fact it reports, unique within its job ("object/created/Deployment app/web"): an agent that
lost its spool derives events again from its checkpoint, and the relay keeps the first of each key. That is how 0 are
doubled.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fairlead_shared.bounds import Count, EpochSeconds
from fairlead_shared.errors import ReceivedCode
from fairlead_shared.objects import ObjectRef

_Text = Annotated[str, Field(max_length=4096)]
MAX_FIELDS = 50
"""Field changes of one object that a plan shows; more of them nobody reads, and one event must stay small."""
MAX_POINTER_CHARACTERS = 512
MAX_VALUE_CHARACTERS = 256
"""Of one value in a field change, before and after."""


class Step(StrEnum):
    """Stages of a deploy job, in order."""

    VERIFY = "verify"
    FETCH = "fetch"
    PREFLIGHT = "preflight"
    APPLY = "apply"
    WAIT = "wait"
    PRUNE = "prune"


class Action(StrEnum):
    """What became of one object."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    RECREATED = "recreated"
    PRUNED = "pruned"
    SKIPPED = "skipped"
    FAILED = "failed"


class HealthStatus(StrEnum):
    """Health of one object; the worst of the children wins upward."""

    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    SUSPENDED = "Suspended"
    MISSING = "Missing"
    UNKNOWN = "Unknown"


class Outcome(StrEnum):
    """How a job ended, in the agent's words."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str = Field(max_length=700)
    """Names the fact, unique within the job."""
    at: EpochSeconds
    """Seconds since the epoch, by the agent's clock."""


class StepEvent(_Event):
    """A stage began or ended."""

    type: Literal["step"] = "step"
    step: Step
    status: Literal["started", "finished", "failed"]
    detail: _Text = ""


class ObjectEvent(_Event):
    """Something was done to one object, or deliberately not done."""

    type: Literal["object"] = "object"
    object: ObjectRef
    action: Action
    detail: _Text = ""


class HealthEvent(_Event):
    """The health of one object changed."""

    type: Literal["health"] = "health"
    object: ObjectRef
    status: HealthStatus
    cause: _Text = ""
    """One sentence; empty when healthy."""


class FindingEvent(_Event):
    """A reason why the job cannot go on, or a warning. All findings of a stage are reported before it fails."""

    type: Literal["finding"] = "finding"
    severity: Literal["error", "warning"]
    code: ReceivedCode
    object: ObjectRef | None = None
    field: Annotated[str, Field(max_length=512)] = ""
    """Path of the field in the object, dotted; empty if none is to blame."""
    message: _Text
    remedy: _Text = ""
    """What would make it work, e.g. the missing RBAC rule as YAML."""


class FieldChange(BaseModel):
    """One field of one object that a deployment would change."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pointer: Annotated[str, Field(max_length=MAX_POINTER_CHARACTERS)]
    """JSON pointer (RFC 6901) into the object as it is; what is added to a list, into the object as it would be."""
    before: Annotated[str, Field(max_length=MAX_VALUE_CHARACTERS)] | None = None
    """JSON of the value, cut off with `…` where it is long; None if the field is not there."""
    after: Annotated[str, Field(max_length=MAX_VALUE_CHARACTERS)] | None = None
    """The same of what it would be."""
    masked: bool = False
    """Whether the values are secret: that they differ is all that is said, and both are None."""


class PlannedEvent(_Event):
    """What would be done to one object. Only in jobs of kind `plan`, which only a relay that knows this type makes."""

    type: Literal["planned"] = "planned"
    object: ObjectRef
    action: Action
    detail: _Text = ""
    fields: Annotated[tuple[FieldChange, ...], Field(max_length=MAX_FIELDS)] = ()
    """For `changed`: what would differ from the live object."""
    fields_left_out: Count = 0
    """How many more there are."""


class ResultEvent(_Event):
    """The last event of a job."""

    type: Literal["result"] = "result"
    outcome: Outcome
    code: ReceivedCode | None = None
    cause: _Text = ""
    """One sentence; empty on success."""
    counts: dict[Action, Count] = Field(default_factory=dict)


ProgressEvent = Annotated[
    StepEvent | ObjectEvent | HealthEvent | FindingEvent | PlannedEvent | ResultEvent, Field(discriminator="type")
]
