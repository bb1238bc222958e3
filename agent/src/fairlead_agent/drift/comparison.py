"""
Comparison of one object with what was deployed, as a plan compares: by the API server's own dry-run.

Defaults and what webhooks fill in are on both sides, so that only what a deployment would really change is drift. Who
did it is read from the managed fields: whoever owns what differs. Writes nothing; values of Secrets stay here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from fairlead_agent.apply.field_changes import field_changes
from fairlead_agent.apply.ignored import left_to_others, owned_length, parts_of
from fairlead_agent.apply.inventory import ENVIRONMENT_ANNOTATION, OWNER_LABEL
from fairlead_agent.apply.live import digest_of
from fairlead_agent.apply.wanted import WantedObjects
from fairlead_agent.errors import Conflict, KubeError, NotFound
from fairlead_agent.kube.client import FIELD_MANAGER, KubeClient
from fairlead_agent.kube.resources import Resource
from fairlead_shared.drift import MAX_DRIFT_MANAGERS, MAX_DRIFTED_FIELDS, DriftKind
from fairlead_shared.errors import SealInvalid
from fairlead_shared.progress import FieldChange

_MANAGER_CHARACTERS: Final = 128
"""As many as the API server takes."""
_NO_VERSION = "1"
"""etcd begins with it, before its first write."""
_REASON_CHARACTERS: Final = 1024


@dataclass(frozen=True, slots=True)
class Found:
    """How an object differs."""

    kind: DriftKind
    since: float | None = None
    """When it was changed, seconds since the epoch; None if the API server does not say."""
    managers: tuple[str, ...] = ()
    fields: tuple[FieldChange, ...] = ()
    fields_left_out: int = 0
    reason: str = ""
    may_be_corrected: bool = False
    """Whether it is ours to put right."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a look at one object showed."""

    found: Found | None
    """None: it is as it was deployed."""
    digest: bytes = b""
    """Of the live object, as a watch shows it; empty if there is none."""
    manifest: dict[str, Any] = field(default_factory=dict, repr=False)
    """What to apply to put it right: bound to the live object's version, if there is one. May hold opened values."""


async def compare(client: KubeClient, wanted: WantedObjects, place: int, resource: Resource, uid: str) -> Comparison:
    """
    Look at one object.

    Args:
        client: The API server.
        wanted: What was deployed.
        place: Which of it.
        resource: Where its kind is served.
        uid: Of the object that we wrote; empty if that is not known.
    Raises: Conflict, NotFound: it changed meanwhile. KubeError: temporary ones.
    """
    ref = wanted.refs[place]
    try:
        live = await client.find(resource, ref.namespace, ref.name)
        if live is None:
            return _of_missing(wanted.prepared(place), is_job=(resource.group, resource.kind) == ("batch", "Job"))
        digest = digest_of(live)
        if foreign := _why_not_ours(live, wanted, uid):
            return Comparison(_of_foreign(live, foreign), digest)
        if live["metadata"].get("deletionTimestamp"):
            return Comparison(_being_deleted(live), digest)
        ignored = wanted.ignored(place)
        manifest = left_to_others(wanted.prepared(place), live, ignored)
        manifest["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        # Only to compare: whose the fields are now is what is to be found out.
        applied = await client.apply(resource, manifest, dry_run=True, force=True)
    except (Conflict, NotFound):
        raise
    except KubeError as error:
        if error.temporary:
            raise
        return Comparison(Found(DriftKind.UNKNOWN, reason=error.explained()[:_REASON_CHARACTERS]))
    except SealInvalid as error:
        return Comparison(Found(DriftKind.UNKNOWN, reason=str(error)[:_REASON_CHARACTERS]))
    return Comparison(_of_fields(applied.manifest, live, ignored), digest, manifest)


def _of_missing(manifest: dict[str, Any], *, is_job: bool) -> Comparison:
    """A Job that is made again runs again; one with a time to live is gone because it has done its work."""
    if is_job and "ttlSecondsAfterFinished" in (manifest.get("spec") or {}):
        return Comparison(None)
    if is_job:
        return Comparison(Found(DriftKind.MISSING, reason="it is not made again, since it would run again"))
    # No object is ever at this version, so that it is made only while there is none: what somebody else makes
    # meanwhile is a conflict, and not merged into.
    manifest["metadata"]["resourceVersion"] = _NO_VERSION
    return Comparison(Found(DriftKind.MISSING, may_be_corrected=True), manifest=manifest)


def _why_not_ours(live: Mapping[str, Any], wanted: WantedObjects, uid: str) -> str:
    """Say why a live object of the right name is none of ours; empty if it is, or only lost its label."""
    metadata = live["metadata"]
    owner = (metadata.get("labels") or {}).get(OWNER_LABEL)
    if owner not in {None, wanted.owner}:
        named = (metadata.get("annotations") or {}).get(ENVIRONMENT_ANNOTATION, owner)
        return f"it belongs to another environment, {named}"
    if uid and metadata["uid"] != uid:
        return "it was deleted, and somebody else made another one of its name; a deployment decides what becomes of it"
    if not uid and owner is None:  # it was to be made again, which came to nothing or is not known to have succeeded
        return "it was deleted, and what is there now lacks the label of ours; a deployment decides what becomes of it"
    return ""


def _of_foreign(live: Mapping[str, Any], reason: str) -> Found:
    managers, since = managers_of(live, [])
    return Found(DriftKind.UNOWNED, since, managers, reason=reason[:_REASON_CHARACTERS])


def _being_deleted(live: Mapping[str, Any]) -> Found:
    waits = ", ".join(live["metadata"].get("finalizers") or ())
    reason = f"it is being deleted{f' and waits for its finalizers ({waits})' if waits else ''}"
    return Found(DriftKind.MISSING, reason=reason[:_REASON_CHARACTERS])


def _of_fields(
    deployed: Mapping[str, Any], live: Mapping[str, Any], ignored: Iterable[tuple[str, ...]]
) -> Found | None:
    changes, left_out = field_changes(deployed, live, tuple(ignored))
    if not changes and not left_out:
        return None
    owner = (live["metadata"].get("labels") or {}).get(OWNER_LABEL)
    managers, since = managers_of(live, [change.pointer for change in changes])
    return Found(
        DriftKind.CHANGED if owner else DriftKind.UNOWNED,
        since,
        managers,
        changes[:MAX_DRIFTED_FIELDS],
        left_out + max(0, len(changes) - MAX_DRIFTED_FIELDS),
        may_be_corrected=True,
    )


def managers_of(live: Mapping[str, Any], pointers: Iterable[str]) -> tuple[tuple[str, ...], float | None]:
    """
    Say who has what differs: others' entries of managed fields with one of these fields, or, if none has, the last.

    Returns: Names, the last to write first; and when that one wrote, seconds since the epoch; None: nobody knows.
    """
    entries = sorted(
        (
            entry
            for entry in live["metadata"].get("managedFields") or []
            if entry.get("manager") != FIELD_MANAGER and entry.get("subresource") != "status"
        ),
        key=lambda entry: str(entry.get("time", "")),
        reverse=True,
    )
    paths = [parts_of(pointer) for pointer in pointers]
    having = [
        entry for entry in entries if any(owned_length(entry.get("fieldsV1") or {}, live, path) for path in paths)
    ]
    chosen = having or entries[:1]
    names = dict.fromkeys(str(entry.get("manager", ""))[:_MANAGER_CHARACTERS] for entry in chosen)
    return tuple(names)[:MAX_DRIFT_MANAGERS], _seconds(having[0].get("time")) if having else None


def _seconds(time: object) -> float | None:
    try:
        return datetime.fromisoformat(str(time)).timestamp()
    except ValueError:
        return None
