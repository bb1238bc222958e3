"""
Drift of an environment: what its agent found that is no longer as the last deployment left it.

What is shown is the agent's last word, which the relay keeps and cannot check: see store/drifts.py for when it counts.
A newer relay on the same store may have kept words that this one does not know; they are handed on as they are.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter
from sqlalchemy import Connection

from fairlead_relay.api.access import needs
from fairlead_relay.api.bodies import Shown
from fairlead_relay.api.clusters import OrganizationPath
from fairlead_relay.api.deployments import ApplicationPath, EnvironmentPath
from fairlead_relay.api.services import ServicesOf
from fairlead_relay.store.applications import find_environment
from fairlead_relay.store.deployments import EnvironmentNames, current_deployment
from fairlead_relay.store.drifts import Drift, find_drift
from fairlead_relay.store.outbox import iso_time
from fairlead_relay.store.tokens import Role
from fairlead_shared.drift import DriftMode, UnseenKind
from fairlead_shared.objects import ObjectRef

router = APIRouter(prefix="/v1/organizations/{organization}/applications", tags=["applications"])


class DriftSummary(Shown):
    """Whether an environment is as its last deployment left it."""

    objects: int
    """How many differ now."""
    mode: str
    """What the agent does about it, by its operator's policy: `report` or `correct`."""
    since: str | None
    """When the first of them began to; null if none does."""


class FieldDriftShown(Shown):
    """One field of an object that differs."""

    pointer: str
    """JSON pointer (RFC 6901) into the object."""
    before: str | None
    """JSON of what was deployed, cut off with `…` where it is long; null if nothing was, or the values are masked."""
    after: str | None
    """The same of what is there."""
    masked: bool
    """Whether the values are secret: that they differ is all that is said."""


class DriftedObjectShown(Shown):
    """One object that differs, or did until it was put right."""

    object: ObjectRef
    drift: str
    """`changed`, `missing`, `unowned` (no longer this environment's) or `unknown` (changed, nobody can say how)."""
    status: str
    """`drifted`, `corrected` or `fought` (it comes back each time it is put right)."""
    since: str
    managers: list[str]
    """Field managers that own what differs, the one that wrote last first; empty where nothing tells."""
    fields: list[FieldDriftShown]
    fields_left_out: int
    corrections: int
    """How often it was put right since it was last calm."""
    next_attempt_at: str | None
    """When it will be put right next; null if it will not be."""
    reason: str
    """Why it is not put right, or what is wrong with it; empty where the rest says all."""


class DriftShown(Shown):
    """What an environment's agent reported last of drift, as far as it is about what runs."""

    application: str
    environment: str
    mode: str | None
    """What the agent does about it: `report`, `correct` or `off`. Null if it has reported nothing of what runs: it is
    away, or of a version that does not look."""
    watched: bool
    """Whether it is looked for, so that nothing found means that nothing drifted."""
    reported_at: str | None
    deployment_id: str | None
    """The deployment whose objects these are: the last that succeeded; null if none did yet."""
    bundle_sha256: str | None
    """Of that deployment; null if none succeeded yet."""
    drifted: int
    """Objects that differ now."""
    total: int
    """Objects that differ or were put right; `objects` are the first of them."""
    objects: list[DriftedObjectShown]
    watches: int
    """How many the agent has open for this, for all environments of its cluster."""
    unseen: list[UnseenKind]
    """Kinds of which it cannot say anything, and why."""
    reason: str
    """Why the environment is not watched, or not the whole of it; empty if it is."""


@router.get("/{application}/environments/{environment}/drift")
@needs(Role.VIEWER)
async def show_drift(
    organization: OrganizationPath, application: ApplicationPath, environment: EnvironmentPath, services: ServicesOf
) -> DriftShown:
    """Show which objects of an environment are not as its last deployment left them, and who changed them."""
    place = (organization, application, environment)
    return await services.store.read(lambda connection: describe_drift(connection, place))


def describe_drift(connection: Connection, place: EnvironmentNames) -> DriftShown:
    """
    Return what is known of the drift of an environment.

    Raises: NotFound: there is none of that name.
    """
    find_environment(connection, *place)
    current = current_deployment(connection, *place)
    found = find_drift(connection, place, current.bundle_sha256 if current else None)
    told: dict[str, Any] = json.loads(found.report) if found else {}
    return DriftShown(
        application=place[1],
        environment=place[2],
        mode=found.mode if found else None,
        watched=found is not None and _is_watched(found),
        reported_at=iso_time(found.received_at) if found else None,
        deployment_id=current.id if current else None,
        bundle_sha256=current.bundle_sha256 if current else None,
        drifted=found.objects if found else 0,
        total=told.get("total", 0),
        objects=[_show_object(one) for one in told.get("objects", ())],
        watches=told.get("watches", 0),
        unseen=[UnseenKind.model_validate(kind) for kind in told.get("unseen", ())],
        reason=told.get("reason", ""),
    )


def summarize_drift(connection: Connection, place: EnvironmentNames, bundle_sha256: str | None) -> DriftSummary | None:
    """Return how far an environment that runs a bundle is from it; None if nobody has said, or nobody looks."""
    found = find_drift(connection, place, bundle_sha256)
    if found is None or not _is_watched(found):
        return None
    since = None if found.since is None else iso_time(found.since)
    return DriftSummary(objects=found.objects, mode=found.mode, since=since)


def _is_watched(found: Drift) -> bool:
    return bool(found.bundle_sha256) and found.mode != DriftMode.OFF


def _show_object(one: dict[str, Any]) -> DriftedObjectShown:
    due = one["next_attempt_at"]
    times = {"since": iso_time(one["since"]), "next_attempt_at": None if due is None else iso_time(due)}
    return DriftedObjectShown.model_validate({**one, **times})
