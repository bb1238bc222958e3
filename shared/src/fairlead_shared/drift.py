"""
Drift: what differs in a cluster from what an environment's last deployment put there, in the words of both ends.

Made by the agent that watches the objects, kept by the relay as it is, shown by CLI and UI. Data only: how a report
travels is in frames.py, how drift is found and corrected is the agent's.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from fairlead_shared.bounds import Count, EpochSeconds
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import FieldChange

MAX_DRIFTED_OBJECTS = 100
"""Objects that one report lists; `total` counts all."""
MAX_DRIFTED_FIELDS = 20
"""Fields of one object that a report lists."""
MAX_DRIFT_MANAGERS = 5
MAX_UNSEEN = 20
MAX_OBJECT_BYTES = 8 * 1024
"""Of one listed object as JSON, kept by whoever makes the report: a hundred of them stay far below a frame."""


class DriftMode(StrEnum):
    """What the agent's operator has it do about the drift of an environment."""

    REPORT = "report"
    CORRECT = "correct"
    """Put back what the last deployment put there, and report."""
    OFF = "off"
    """Nothing is watched."""


class DriftKind(StrEnum):
    """In which way an object differs."""

    CHANGED = "changed"
    MISSING = "missing"
    """It was deleted."""
    UNOWNED = "unowned"
    """An object of its name is there, and is no longer this environment's: another one, or without our label."""
    UNKNOWN = "unknown"
    """It changed, and the API server does not let the agent find out how; `reason` has its words."""


class DriftStatus(StrEnum):
    """What became of a difference."""

    DRIFTED = "drifted"
    """It is there."""
    CORRECTED = "corrected"
    """It was put right, and has been since."""
    FOUGHT = "fought"
    """It comes back each time it is put right: somebody else wants it otherwise."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class DriftedObject(_Part):
    """One object that differs, or did until it was put right."""

    object: ObjectRef
    drift: DriftKind
    status: DriftStatus
    since: EpochSeconds
    """When it began: by the API server's clock if it says so, else when the agent saw it."""
    managers: Annotated[tuple[Annotated[str, Field(max_length=128)], ...], Field(max_length=MAX_DRIFT_MANAGERS)] = ()
    """Field managers that own what differs, the one that wrote last first; empty where nothing tells."""
    fields: Annotated[tuple[FieldChange, ...], Field(max_length=MAX_DRIFTED_FIELDS)] = ()
    """What differs: `before` is what was deployed, `after` what is there. Values of Secrets are never told."""
    fields_left_out: Count = 0
    """How many more there are."""
    corrections: Count = 0
    """How often it was put right since it was last calm."""
    next_attempt_at: EpochSeconds | None = None
    """When it will be put right next; None if it will not be."""
    reason: Annotated[str, Field(max_length=1024)] = ""
    """Why it is not put right, or what is wrong with it, in one sentence; empty where the rest says all."""


class UnseenKind(_Part):
    """Objects of a kind that the agent may not watch, so that their drift is not known."""

    group: Annotated[str, Field(max_length=253)] = ""
    resource: Annotated[str, Field(max_length=253)]
    """Plural, as RBAC names it."""
    namespace: Annotated[str, Field(max_length=63)] = ""
    reason: Annotated[str, Field(max_length=1024)]
    """Why: for a missing right, the rule that would do, as YAML."""
