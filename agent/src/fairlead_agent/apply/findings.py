"""Findings: errors of the API server and of our own rules in the words a developer can act on. Pure: no I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from fairlead_agent.errors import FieldConflict, InvalidObject, KubeError, MissingRight, NotFound
from fairlead_shared.errors import ErrorCode
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import FindingEvent

Severity = Literal["error", "warning"]
_FIELD_CHARACTERS = 512
_TEXT_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason why a deployment cannot go on, or a warning."""

    code: ErrorCode
    message: str
    ref: ObjectRef | None = None
    field: str = ""
    remedy: str = ""
    severity: Severity = "error"

    def event(self, at: float) -> FindingEvent:
        """Return it as a progress event; the same finding of a later attempt has the same key."""
        digest = hashlib.sha256(f"{self.field}\n{self.message}".encode()).hexdigest()[:12]
        return FindingEvent(
            key=f"finding/{self.code}/{self.ref or ''}/{digest}",
            at=at,
            severity=self.severity,
            code=self.code,
            object=self.ref,
            field=self.field[:_FIELD_CHARACTERS],
            message=self.message[:_TEXT_CHARACTERS],
            remedy=self.remedy[:_TEXT_CHARACTERS],
        )

    @property
    def sentence(self) -> str:
        """The finding as one sentence, with its object."""
        return f"{self.ref}: {self.message}" if self.ref else self.message


def findings_of(error: KubeError, ref: ObjectRef, *, fresh: bool = False) -> Iterator[Finding]:
    """
    Yield what an error of the API server means for one object: one finding per field it blames.

    Args:
        error: What the request for the object ended with.
        ref: The object.
        fresh: Whether the object was to be created or changed, so that "not found" blames what holds it.
    """
    match error:
        case MissingRight():
            yield Finding(error.code, str(error), ref, remedy=error.rule_yaml())
        case FieldConflict(causes=causes):
            remedy = "remove the field from the manifest, or make the other manager let go of it"
            for cause in causes:
                message = f"another field manager owns this field: {cause.message}"
                yield Finding(error.code, message, ref, field=cause.field, remedy=remedy)
        case InvalidObject(causes=causes) if causes:
            for cause in causes:
                yield Finding(error.code, cause.message or str(error), ref, field=cause.field)
        case NotFound() if fresh and ref.namespace:
            message = f"namespace {ref.namespace} does not exist"
            yield Finding(error.code, message, ref, remedy="create it first, or add it to the manifests")
        case _:
            yield Finding(error.code, str(error), ref)


def folded(findings: Iterable[Finding]) -> list[Finding]:
    """Report a missing right, or a warning, once for however many objects; all else stays as it is, in order."""
    kept: list[Finding] = []
    seen: dict[str, int] = {}
    counts: dict[str, int] = {}
    for finding in findings:
        is_common = finding.code is ErrorCode.WARNING or (finding.code is ErrorCode.FORBIDDEN and finding.remedy)
        if not is_common:
            kept.append(finding)
            continue
        counts[finding.message] = counts.get(finding.message, 0) + 1
        if finding.message not in seen:
            seen[finding.message] = len(kept)
            kept.append(finding)
    for message, place in seen.items():
        if counts[message] > 1:
            what = "objects need it" if kept[place].code is ErrorCode.FORBIDDEN else "objects"
            kept[place] = replace(kept[place], message=f"{message} ({counts[message]} {what})")
    return kept


def and_others(count: int) -> str:
    """Say after the first of some findings that there are more."""
    return f" (and {count - 1} more)" if count > 1 else ""
