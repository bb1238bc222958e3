"""
The events of jobs: what their agents report, and each change of their state, in one numbered story.

Must not change a job; jobs.py and progress.py do, and call this in the same transaction.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from fairlead_relay.store.outbox import EventRecord, outbox
from fairlead_relay.store.schema import job_events
from fairlead_shared.jobs import FINAL_STATES, JobState

_COLUMNS: Final = (
    job_events.c.position,
    job_events.c.organization,
    job_events.c.deployment_id,
    job_events.c.job_id,
    job_events.c.attempt,
    job_events.c.recorded_at,
    job_events.c.event,
)
_INSERT: Final = insert(job_events).returning(job_events.c.position)
_INSERT_MANY: Final = insert(job_events).returning(*_COLUMNS, sort_by_parameter_order=True)
# The same words in two dialects of SQLAlchemy: one construct for both does not exist.
_INSERT_UNKNOWN: Final = {
    "sqlite": sqlite.insert(job_events).on_conflict_do_nothing().returning(*_COLUMNS),
    "postgresql": postgresql.insert(job_events).on_conflict_do_nothing().returning(*_COLUMNS),
}
_FINAL_MARK: Final = tuple(f'{{"type":"job","state":"{state}"' for state in sorted(FINAL_STATES))
"""How the record of a final state begins, as `append_states` writes it."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose events: of one job, of one deployment, or (both None) of a whole organization."""

    organization: str
    deployment_id: str | None = None
    job_id: str | None = None

    def matches(self, record: EventRecord) -> bool:
        """Tell whether a record belongs to this scope."""
        return (
            record.organization == self.organization
            and self.deployment_id in (None, record.deployment_id)
            and self.job_id in (None, record.job_id)
        )


@dataclass(frozen=True, slots=True)
class Story:
    """What all events of one job have in common."""

    organization: str
    deployment_id: str | None
    job_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class StateChange:
    """What a job's record says of its new state."""

    story: Story
    state: JobState
    reason: str
    """Empty where there is none."""
    now: float
    """Seconds since the epoch."""


def append_states(connection: Connection, changes: Sequence[StateChange]) -> None:
    """Append the records of new states, in one statement for all of them, and put them into the outbox."""
    if not changes:
        return
    rows = [
        {**_shared(change.story, change.now), "seq": None, "key": None, "event": _state_event(change)}
        for change in changes
    ]
    if len(rows) > 1:
        outbox(connection).extend(_record(row) for row in connection.execute(_INSERT_MANY, rows))
        return
    # Making the statement for many costs more than the one record, which is what there mostly is.
    ((change, row),) = zip(changes, rows, strict=True)
    position = connection.scalar(_INSERT, row)
    if position is None:
        raise RuntimeError("the database inserted an event and returned no position")
    story, event = change.story, str(row["event"])
    of = (story.organization, story.deployment_id, story.job_id, story.attempt)
    outbox(connection).append(EventRecord(position, *of, change.now, event, change.state in FINAL_STATES))


def _state_event(change: StateChange) -> str:
    attempt, reason, at = change.story.attempt, change.reason, change.now
    facts = {"type": "job", "state": change.state, "attempt": attempt, "reason": reason, "at": at}
    return json.dumps(facts, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class ToldProgress:
    """Events that an agent told of a job."""

    story: Story
    events: Sequence[tuple[int, str, str]]
    """(seq, key, JSON of the event), ascending."""
    now: float
    """Seconds since the epoch."""


def append_progress(connection: Connection, told: Sequence[ToldProgress]) -> None:
    """
    Append agents' events, in one statement for all of them, and put the new ones into the outbox.

    One whose number or key is known is left out.
    """
    events = [
        {**_shared(one.story, one.now), "seq": seq, "key": key, "event": event}
        for one in told
        for seq, key, event in one.events
    ]
    if not events:
        return
    rows = connection.execute(_INSERT_UNKNOWN[connection.dialect.name], events).all()
    outbox(connection).extend(_record(row) for row in sorted(rows, key=lambda row: row.position))


def _reading(*where: ColumnElement[bool]) -> Select[Any]:
    return (
        select(*_COLUMNS)
        .where(
            job_events.c.organization == bindparam("of_organization"),
            job_events.c.position > bindparam("after"),
            *where,
        )
        .order_by(job_events.c.position)
        .limit(bindparam("most"))
    )


_OF_JOB: Final = job_events.c.job_id == bindparam("of_job")
_OF_DEPLOYMENT: Final = job_events.c.deployment_id == bindparam("of_deployment")
_READ: Final = {
    (False, False): _reading(),
    (True, False): _reading(_OF_JOB),
    (False, True): _reading(_OF_DEPLOYMENT),
    (True, True): _reading(_OF_JOB, _OF_DEPLOYMENT),
}
"""By whether the scope has a job, and a deployment. Made once: whoever follows a deployment asks."""


def read_events(connection: Connection, scope: Scope, after: int, limit: int) -> list[EventRecord]:
    """
    Return stored records in order.

    Args:
        connection: In a read.
        scope: Whose.
        after: Position of the last record that is known; 0 for all.
        limit: At most so many.
    Returns: Records with a position above `after`; empty at the end.
    """
    of = {"of_organization": scope.organization, "after": after, "most": limit}
    of |= {"of_job": scope.job_id} if scope.job_id is not None else {}
    of |= {"of_deployment": scope.deployment_id} if scope.deployment_id is not None else {}
    query = _READ[scope.job_id is not None, scope.deployment_id is not None]
    return [_record(row) for row in connection.execute(query, of)]


_NEWEST: Final = select(func.coalesce(func.max(job_events.c.position), 0))
_BETWEEN: Final = (
    select(*_COLUMNS)
    .where(
        job_events.c.organization.in_(bindparam("of_organizations", expanding=True)),
        job_events.c.position > bindparam("after"),
        job_events.c.position <= bindparam("upto"),
    )
    .order_by(job_events.c.position)
    .limit(bindparam("most"))
)


def newest_position(connection: Connection) -> int:
    """Return the position of the newest record of all; 0 before the first."""
    newest: int = connection.execute(_NEWEST).scalar_one()
    return newest


def read_between(
    connection: Connection, organizations: Collection[str], after: int, upto: int, limit: int
) -> list[EventRecord]:
    """
    Return the records of some organizations between two positions, in order.

    Args:
        connection: In a read.
        organizations: Whose.
        after: Exclusive.
        upto: Inclusive.
        limit: At most so many.
    """
    between = {"of_organizations": sorted(organizations), "after": after, "upto": upto, "most": limit}
    return [_record(row) for row in connection.execute(_BETWEEN, between)]


def _shared(story: Story, now: float) -> Mapping[str, Any]:
    return {
        "organization": story.organization,
        "deployment_id": story.deployment_id,
        "job_id": story.job_id,
        "attempt": story.attempt,
        "recorded_at": now,
    }


def _record(row: Sequence[Any]) -> EventRecord:
    position, organization, deployment_id, job_id, attempt, recorded_at, event = row
    final = event.startswith(_FINAL_MARK)
    return EventRecord(position, organization, deployment_id, job_id, attempt, recorded_at, event, final)
