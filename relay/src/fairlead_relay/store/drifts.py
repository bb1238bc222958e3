"""
Drift: what each environment's agent reported last of objects that are no longer as their deployment left them.

One row per environment, the newest report whole. It is about a bundle, and counts as long as that bundle is what the
environment runs: a report of another one is there, and shown to nobody. So neither the end of a deployment nor a report
that comes before it, or late, needs to put the other right. One about no bundle, which says why nothing is watched,
counts always.

Must not believe an agent: the environment has to be one of its own cluster, and the connection the agent's newest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, and_, bindparam, cast, exists, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from fairlead_relay.store.deployments import RUNNING_BUNDLE, EnvironmentNames
from fairlead_relay.store.schema import agents, drifts, environments


@dataclass(frozen=True, slots=True)
class Drift:
    """A report, as stored."""

    revision: int
    """Rises within one connection."""
    bundle_sha256: str
    """Of the deployment whose objects it is about; empty if nothing is watched."""
    mode: str
    """What the agent does about it, as its operator has it."""
    objects: int
    """How many are drifted now, listed or not."""
    since: float | None
    """When the first of them was found so, seconds since the epoch; None if none is."""
    report: str
    """JSON of the agent's message."""
    received_at: float
    """Seconds since the epoch, by the relay's clock."""


_KEY: Final = ("organization", "application", "environment")
_NAMES: Final = ("revision", "bundle_sha256", "mode", "objects", "since", "report", "received_at")
_REPORTED: Final = tuple(drifts.c[name] for name in _NAMES)
_IS_ITS_OWN: Final = (
    environments.c.organization == bindparam("of_organization"),
    environments.c.application == bindparam("of_application"),
    environments.c.name == bindparam("of_environment"),
    environments.c.deleted_at.is_(None),
    exists().where(
        agents.c.organization == environments.c.organization,
        agents.c.cluster == environments.c.cluster,
        agents.c.session_id == bindparam("of_session"),
    ),
)
"""Whether the environment is one of the reporter's own cluster, and its connection the agent's newest."""
_ROW: Final = select(
    environments.c.organization,
    environments.c.application,
    environments.c.name,
    # Cast, since in a SELECT nothing else says what type they have.
    cast(bindparam("of_session"), drifts.c.session_id.type),
    *(cast(bindparam(f"new_{name}"), drifts.c[name].type) for name in _NAMES),
).where(*_IS_ITS_OWN)


def _upsert(inserted: postgresql.Insert | sqlite.Insert) -> ReturningInsert[tuple[int]]:
    excluded, told = inserted.excluded, ("session_id", *_NAMES)
    stored = inserted.from_select([*_KEY, *told], _ROW).on_conflict_do_update(
        index_elements=list(_KEY),
        set_={name: excluded[name] for name in told},
        where=or_(drifts.c.session_id != excluded.session_id, drifts.c.revision < excluded.revision),
    )
    return stored.returning(drifts.c.revision)


# The same words in two dialects of SQLAlchemy: one construct for both does not exist.
_RECORD: Final = {"sqlite": _upsert(sqlite.insert(drifts)), "postgresql": _upsert(postgresql.insert(drifts))}
_FIND: Final = select(*_REPORTED).where(
    *(drifts.c[name] == bindparam(f"of_{name}") for name in _KEY),
    or_(drifts.c.bundle_sha256 == bindparam("of_bundle"), drifts.c.bundle_sha256 == ""),
)
_COUNT: Final = (
    select(func.count())
    .select_from(
        drifts.join(
            environments,
            and_(
                environments.c.organization == drifts.c.organization,
                environments.c.application == drifts.c.application,
                environments.c.name == drifts.c.environment,
            ),
        )
    )
    .where(drifts.c.objects > 0, environments.c.deleted_at.is_(None), drifts.c.bundle_sha256 == RUNNING_BUNDLE)
)


def record_drift(connection: Connection, session_id: str, place: EnvironmentNames, drift: Drift) -> bool:
    """
    Keep what an agent reports, unless a newer report of the environment is there.

    Args:
        connection: In a write.
        session_id: The connection it came over.
        place: The environment that it is about, as the agent says.
        drift: The report.
    Returns: Whether it is kept; not if the environment is none of that agent's cluster, or if the agent has a newer
        connection.
    """
    told = {f"new_{name}": getattr(drift, name) for name in _NAMES}
    record = _RECORD[connection.dialect.name]
    return connection.scalar(record, {**_of(place), "of_session": session_id, **told}) is not None


def find_drift(connection: Connection, place: EnvironmentNames, bundle_sha256: str | None) -> Drift | None:
    """
    Return what was reported last of an environment.

    Args:
        connection: In a read or write.
        place: Which.
        bundle_sha256: Of what it runs; None if nothing was deployed yet.
    Returns: None if nothing was reported of that.
    """
    row = connection.execute(_FIND, {**_of(place), "of_bundle": bundle_sha256}).one_or_none()
    return None if row is None else Drift(*row)


def count_drifted(connection: Connection) -> int:
    """Count the environments, of all organizations, in which an object of what they run is drifted."""
    return connection.scalar(_COUNT) or 0


def _of(place: EnvironmentNames) -> dict[str, object]:
    return {f"of_{name}": value for name, value in zip(_KEY, place, strict=True)}
