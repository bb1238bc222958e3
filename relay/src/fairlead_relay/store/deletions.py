"""
Deleted environments: what there is to destroy, and the mark that one is gone.

The row stays: deployments, jobs and events refer to it, and are the history of what was done. A deleted environment is
found by nobody, and its name can be used again (applications.py). Must not ask for anything to be destroyed; planning
does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select, update

from fairlead_relay.errors import Conflict
from fairlead_relay.store.deployments import EnvironmentNames, current_deployment
from fairlead_relay.store.events import Scope, read_events
from fairlead_relay.store.schema import deployments, drifts, environments, jobs
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import Action
from fairlead_shared.statement import DeploymentStatement

_LOOKED_AT: Final = 1_000
"""Deployments whose namespaces count, newest first: what an older one left was pruned by those after it."""
_PLACE: Final = (
    environments.c.organization == bindparam("of_organization"),
    environments.c.application == bindparam("of_application"),
    environments.c.name == bindparam("of_name"),
)
_MARK: Final = (
    update(environments).where(*_PLACE, environments.c.deleted_at.is_(None)).values(deleted_at=bindparam("now"))
)
_FORGET_DRIFT: Final = delete(drifts).where(
    drifts.c.organization == bindparam("of_organization"),
    drifts.c.application == bindparam("of_application"),
    drifts.c.environment == bindparam("of_name"),
)
_UNFINISHED: Final = (
    select(jobs.c.deployment_id)
    .where(
        jobs.c.organization == bindparam("of_organization"),
        jobs.c.application == bindparam("of_application"),
        jobs.c.environment == bindparam("of_name"),
        jobs.c.exclusive,
        jobs.c.finished_at.is_(None),
    )
    .order_by(jobs.c.sequence)
)
_STATEMENTS: Final = (
    select(deployments.c.statement)
    .where(
        deployments.c.organization == bindparam("of_organization"),
        deployments.c.application == bindparam("of_application"),
        deployments.c.environment == bindparam("of_name"),
    )
    .order_by(deployments.c.sequence.desc())
    .limit(_LOOKED_AT)
)
_AT_DELETION: Final = re.compile(r"^hook: runs .*?\b((?:before|after|before and after|at) deletion)\b")
"""Source: docs/protocol.md, "Hooks"."""
_MADE: Final = frozenset({Action.CREATED, Action.CHANGED, Action.UNCHANGED, Action.RECREATED})


def mark_deleted(connection: Connection, place: EnvironmentNames, now: float) -> None:
    """Note that an environment is gone; twice is once."""
    connection.execute(_MARK, {**_of(place), "now": now})
    connection.execute(_FORGET_DRIFT, _of(place))


def forget_environment(connection: Connection, place: EnvironmentNames, now: float) -> None:
    """
    Delete an environment and leave its objects where they are.

    Raises: Conflict: a deployment of it has not ended.
    """
    unfinished = unfinished_deployments(connection, place)
    if unfinished:
        raise Conflict(f"deployment '{unfinished[0]}' has not ended; cancel it first")
    mark_deleted(connection, place, now)


def unfinished_deployments(connection: Connection, place: EnvironmentNames) -> list[str]:
    """Return the ids of an environment's deployments that have not ended, in their order."""
    return [deployment_id for deployment_id in connection.scalars(_UNFINISHED, _of(place)) if deployment_id is not None]


def used_namespaces(connection: Connection, place: EnvironmentNames) -> set[str]:
    """Return every namespace that an environment's deployments were signed for."""
    statements = connection.scalars(_STATEMENTS, _of(place))
    return {name for content in statements for name in DeploymentStatement.from_bytes(content).namespaces}


def reported_objects(connection: Connection, place: EnvironmentNames, limit: int) -> list[ObjectRef]:
    """Return the objects that the last deployment which succeeded made or found, as its agent reported."""
    made = (ref for ref, action, _ in _reported(connection, place) if action in _MADE)
    return list(islice(dict.fromkeys(made), limit))


def reported_hooks(connection: Connection, place: EnvironmentNames, limit: int) -> list[tuple[ObjectRef, str]]:
    """
    Return the hooks that the last deployment which succeeded left for a deletion, as its agent reported.

    Returns: Each with when it runs, such as `before deletion`; `at deletion` where an older agent said no more.
    """
    told = ((ref, _AT_DELETION.search(detail)) for ref, _, detail in _reported(connection, place))
    return list(islice(dict.fromkeys((ref, found[1]) for ref, found in told if found), limit))


def _reported(connection: Connection, place: EnvironmentNames) -> Iterator[tuple[ObjectRef, str, str]]:
    """Yield each object of which the last deployment which succeeded reported something, with action and detail."""
    current = current_deployment(connection, *place)
    scope, after = Scope(place[0], job_id=None if current is None else current.job.id), 0
    while current is not None and (records := read_events(connection, scope, after, 500)):
        after = records[-1].position
        for event in map(json.loads, (record.event for record in records)):
            if event["type"] == "object":
                yield ObjectRef(**event["object"]), event["action"], event.get("detail", "")


def _of(place: EnvironmentNames) -> dict[str, str]:
    return dict(zip(("of_organization", "of_application", "of_name"), place, strict=True))
