"""
Jobs: the queue, and the one way by which a job's state changes.

A `Transition` is a single compare-and-set UPDATE: its guard is `sources(event)` of the shared table together with
whatever its maker adds (fencing token, holder), its new state comes from the same table, and the state's record is
appended in the same transaction. Nothing else writes `jobs.state`. Leasing is in leases.py, what agents report in
progress.py.

Bound parameters of an UPDATE are named `of_…`, `new_…` or `now`, never as a column: SQLAlchemy would set that column.

Order: jobs that change an environment (`exclusive`) run in the order they were stored, one at a time per environment;
jobs that only read run beside them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Double,
    bindparam,
    case,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    update,
)

from fairlead_relay.errors import Conflict, NotFound
from fairlead_relay.store.events import StateChange, Story, append_states
from fairlead_relay.store.outbox import Work, outbox
from fairlead_relay.store.schema import jobs
from fairlead_shared.errors import ErrorCode
from fairlead_shared.jobs import FINAL_STATES, HELD_STATES, JobEvent, JobKind, JobState, next_state, sources
from fairlead_shared.progress import Outcome

Stop = Literal["cancel", "supersede"]


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be queued."""

    id: str
    organization: str
    cluster: str
    kind: str
    """A JobKind; for one that is tried again, what it was."""
    application: str
    environment: str
    deployment_id: str | None
    """For jobs that carry out a deployment."""
    exclusive: bool
    """True when it changes the environment."""
    wait_seconds: float
    deadline: float
    """Seconds since the epoch."""
    created_by: str
    """Id of the token that asked."""
    priority: int = 0
    """Higher goes first, between environments; within one the order of storing holds."""
    attempt: int = 1
    """Above those of the jobs that tried the same deployment before."""
    reason: str = ""
    """Why it is there, where nobody asked for it at this moment."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as stored. Times are seconds since the epoch."""

    sequence: int
    id: str
    organization: str
    cluster: str
    kind: str
    """A JobKind, or a kind that only the newer relay knows which stored it, before a rollback or beside this one."""
    application: str | None
    environment: str | None
    deployment_id: str | None
    exclusive: bool
    priority: int
    state: JobState
    attempt: int
    token: int
    """Fencing token: rises with each lease; 0 before the first."""
    acknowledged_seq: int
    """All progress events up to this number are stored."""
    stop: Stop | None
    """Set once somebody asked for the job to stop."""
    holder: str | None
    """Session that holds the job."""
    leased_at: float | None
    """When it was offered; None once its agent took it."""
    lease_expires_at: float | None
    runnable_at: float | None
    """Not to be leased before; None: at once."""
    wait_seconds: float
    deadline: float
    reason: str
    """Why it went back to the queue, was lost or was refused; empty otherwise."""
    outcome: Outcome | None
    code: str | None
    cause: str
    counts: dict[str, int] = field(hash=False)
    created_by: str
    created_at: float
    started_at: float | None
    finished_at: float | None

    @property
    def story(self) -> Story:
        """What its events have in common."""
        return Story(self.organization, self.deployment_id, self.id, self.attempt)


JOB_COLUMNS: Final = (
    jobs.c.sequence, jobs.c.id, jobs.c.organization, jobs.c.cluster, jobs.c.kind, jobs.c.application,
    jobs.c.environment, jobs.c.deployment_id, jobs.c.exclusive, jobs.c.priority, jobs.c.state, jobs.c.attempt,
    jobs.c.token, jobs.c.acknowledged_seq, jobs.c.stop, jobs.c.holder, jobs.c.leased_at, jobs.c.lease_expires_at,
    jobs.c.runnable_at, jobs.c.wait_seconds, jobs.c.deadline, jobs.c.reason, jobs.c.outcome, jobs.c.code,
    jobs.c.cause, jobs.c.counts, jobs.c.created_by, jobs.c.created_at, jobs.c.started_at, jobs.c.finished_at,
)  # fmt: skip
NOW: Final[BindParameter[float]] = bindparam("now", type_=Double())
"""Seconds since the epoch, in statements that are made once."""
_INSERT: Final = insert(jobs).returning(jobs.c.sequence, sort_by_parameter_order=True)
_FIND: Final = select(*JOB_COLUMNS).where(
    jobs.c.organization == bindparam("organization"), jobs.c.id == bindparam("job_id")
)
_NAMES: Final = tuple(column.name for column in JOB_COLUMNS)


def job_of(row: Sequence[Any]) -> Job:
    """Return the job in a row that begins with JOB_COLUMNS."""
    values = dict(zip(_NAMES, row, strict=False))
    values["state"] = JobState(values["state"])
    values["outcome"] = None if values["outcome"] is None else Outcome(values["outcome"])
    values["counts"] = json.loads(values["counts"])
    return Job(**values)


def enqueue_job(connection: Connection, job: NewJob, now: float) -> Job:
    """
    Queue a job, with its first record, and wake the dispatcher once that is committed.

    Args:
        connection: In a write.
        job: What to queue; organization, cluster and environment exist.
        now: Seconds since the epoch.
    """
    return enqueue_jobs(connection, [job], now)[0]


def enqueue_jobs(connection: Connection, new: Sequence[NewJob], now: float) -> list[Job]:
    """Queue jobs in this order, in two statements for all of them; see `enqueue_job`."""
    if not new:
        return []  # an INSERT without rows would insert one of defaults
    rows = [_row_of(job, now) for job in new]
    sequences = connection.scalars(_INSERT, rows).all()
    stored = [job_of([sequence, *map(row.get, _NAMES[1:])]) for sequence, row in zip(sequences, rows, strict=True)]
    append_states(connection, [StateChange(job.story, job.state, job.reason, now) for job in stored])
    outbox(connection).extend(
        Work(*cluster) for cluster in dict.fromkeys((job.organization, job.cluster) for job in new)
    )
    return stored


def _row_of(job: NewJob, now: float) -> dict[str, Any]:
    return {
        "id": job.id,
        "organization": job.organization,
        "cluster": job.cluster,
        "kind": job.kind,
        "application": job.application,
        "environment": job.environment,
        "deployment_id": job.deployment_id,
        "exclusive": job.exclusive,
        "priority": job.priority,
        "state": JobState.QUEUED,
        "attempt": job.attempt,
        "token": 0,
        "acknowledged_seq": 0,
        "wait_seconds": job.wait_seconds,
        "deadline": job.deadline,
        "reason": job.reason,
        "cause": "",
        "counts": "{}",
        "created_by": job.created_by,
        "created_at": now,
    }


def count_unfinished(connection: Connection) -> dict[JobState, int]:
    """Count the jobs that are not final, of all organizations, by state; a state without any is missing."""
    counted = select(jobs.c.state, func.count()).where(jobs.c.finished_at.is_(None)).group_by(jobs.c.state)
    return {JobState(state): number for state, number in connection.execute(counted)}


def find_job(connection: Connection, organization: str, job_id: str) -> Job:
    """
    Return a job of an organization.

    Raises: NotFound: it has none of that id.
    """
    row = connection.execute(_FIND, {"organization": organization, "job_id": job_id}).one_or_none()
    if row is None:
        raise NotFound("job", job_id)
    return job_of(row)


def is_one_of(column: ColumnElement[str], *words: JobState | JobKind) -> ColumnElement[bool]:
    """
    Return the condition that a column is one of some words.

    They stand in the statement. As parameters of an IN it would be spelled out anew at each execution; and with any
    parameter that it compares with the condition of a partial index, SQLite plans the statement anew each time, which
    takes longer than to run it.
    Source: https://www.sqlite.org/c3ref/prepare.html, on the bindings of a WHERE clause
    """
    return or_(*(column == literal_column(f"'{word}'") for word in sorted(words)))


class Transition:
    """
    An event of the shared table as one compare-and-set statement, made once: making it costs more than running it.

    Args:
        event: What happens. The guard holds the states in which the table allows it.
        where: The rest of the guard: which job, and by which token or holder.
        values: Further columns to set. Leaving the held states clears holder and lease, final states set `finished_at`.
    """

    def __init__(self, event: JobEvent, *where: ColumnElement[bool], **values: object) -> None:
        targets = {state: next_state(state, event) for state in sorted(sources(event))}
        changes: dict[str, object] = {"state": _by_state({state: str(target) for state, target in targets.items()})}
        if not set(targets.values()) <= HELD_STATES:
            for column in ("holder", "lease_expires_at"):
                kept = {state: jobs.c[column] for state, target in targets.items() if target in HELD_STATES}
                changes[column] = _by_state(kept) if kept else None
        finishing = {state: NOW for state, target in targets.items() if target in FINAL_STATES}
        if finishing:
            changes["finished_at"] = _by_state(finishing)
        guard = (is_one_of(jobs.c.state, *targets), *where)
        self._statement = update(jobs).where(*guard).values(changes | values).returning(*JOB_COLUMNS)

    def apply(self, connection: Connection, now: float, **parameters: object) -> list[Job]:
        """
        Apply it to every job that the guard lets through, each with its record.

        Args:
            connection: In a write.
            now: Seconds since the epoch.
            parameters: Values for the bound parameters of guard and columns, other than NOW.
        Returns: The jobs as they are now, in queue order; empty when the guard let none through.
        """
        return self.apply_each(connection, [(now, parameters)])[0]

    def apply_each(self, connection: Connection, each: Sequence[tuple[float, Mapping[str, object]]]) -> list[list[Job]]:
        """
        Apply it several times, with one statement for the records of all.

        Args:
            connection: In a write.
            each: (now, parameters) as of `apply`.
        Returns: What each changed, as `apply`.
        """
        changed: list[list[Job]] = []
        records: list[StateChange] = []
        for now, parameters in each:
            rows = connection.execute(self._statement, {"now": now, **parameters}).all()
            changed.append(sorted((job_of(row) for row in rows), key=lambda job: job.sequence))
            records.extend(StateChange(job.story, job.state, job.cause or job.reason, now) for job in changed[-1])
        append_states(connection, records)
        outbox(connection).extend(
            Work(job.organization, job.cluster)
            for job in itertools.chain(*changed)
            if job.state not in (JobState.LEASED, JobState.RUNNING)
        )
        return changed


def _by_state(values: dict[JobState, Any]) -> object:
    """Choose a value by the state before the change: the right-hand sides of an UPDATE see the old row."""
    if len(set(map(id, values.values()))) == 0:
        return null()
    return case(*((is_one_of(jobs.c.state, state), value) for state, value in values.items()), else_=null())


_THIS: Final = (jobs.c.organization == bindparam("of_organization"), jobs.c.id == bindparam("of_job"))


_EARLIER: Final = (
    jobs.c.organization == bindparam("of_organization"),
    jobs.c.application == bindparam("of_application"),
    jobs.c.environment == bindparam("of_environment"),
    jobs.c.kind == str(JobKind.DEPLOY),
    jobs.c.finished_at.is_(None),
)


def _stop(event: JobEvent, stop: Stop, words: str, *where: ColumnElement[bool]) -> Transition:
    is_queued = is_one_of(jobs.c.state, JobState.QUEUED)
    return Transition(
        event,
        *where,
        stop=stop,
        code=case((is_queued, str(ErrorCode.CANCELLED)), else_=jobs.c.code),
        cause=case((is_queued, words), else_=jobs.c.cause),
        reason=words,
    )


_NEWER: Final = "a newer deployment took its place"
_STOPS: Final[Mapping[Stop, Transition]] = {
    "cancel": _stop(JobEvent.CANCEL, "cancel", "cancelled by request", *_THIS),
    "supersede": _stop(JobEvent.SUPERSEDE, "supersede", _NEWER, *_THIS),
}
_SUPERSEDE_EARLIER: Final = _stop(JobEvent.SUPERSEDE, "supersede", _NEWER, *_EARLIER)
_SUPERSEDE_WHEN_BACK: Final = (
    update(jobs)
    .where(*_EARLIER, is_one_of(jobs.c.state, JobState.UNREACHABLE), jobs.c.stop.is_(None))
    .values(stop="supersede")
)
_STOP_WHEN_BACK: Final = (
    update(jobs)
    .where(*_THIS, is_one_of(jobs.c.state, JobState.UNREACHABLE), jobs.c.stop.is_(None))
    .values(stop=bindparam("new_stop"))
)


def stop_job(connection: Connection, organization: str, job_id: str, stop: Stop, now: float) -> Job:
    """
    Ask for a job to stop. Queued it ends at once; held it is told; unreachable it stops when its agent is back.

    Args:
        connection: In a write.
        organization: Whose.
        job_id: Which.
        stop: `cancel`, or `supersede` when a newer deployment takes its place.
        now: Seconds since the epoch.
    Returns: The job as it is now; asking again changes nothing.
    Raises: NotFound: no such job. Conflict: it has ended already.
    """
    this = {"of_organization": organization, "of_job": job_id}
    changed = _STOPS[stop].apply(connection, now, **this)
    if changed:
        return changed[0]
    connection.execute(_STOP_WHEN_BACK, {**this, "new_stop": stop})
    job = find_job(connection, organization, job_id)
    if job.state in FINAL_STATES:
        raise Conflict(f"job {job_id} has already ended: {job.state}")
    return job


def supersede_earlier(
    connection: Connection, organization: str, application: str, environment: str, now: float
) -> list[Job]:
    """
    Stop every deployment of an environment that is stored so far and has not ended, as `stop_job` does.

    Returns: Those that ended or were told at once.
    """
    of = {"of_organization": organization, "of_application": application, "of_environment": environment}
    connection.execute(_SUPERSEDE_WHEN_BACK, of)
    return _SUPERSEDE_EARLIER.apply(connection, now, **of)
