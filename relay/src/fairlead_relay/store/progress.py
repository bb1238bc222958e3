"""
What agents report about their jobs: numbered events, and the result that ends a job.

An event is stored at most once: by number, because a reconnecting agent sends again what was not acknowledged, and by
key, because one that lost its spool derives its events again. The result's event and the final state share one
transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnClause,
    ColumnElement,
    Connection,
    String,
    Update,
    bindparam,
    case,
    cast,
    column,
    func,
    literal_column,
    update,
)
from sqlalchemy.dialects import postgresql

from fairlead_relay.store.deletions import mark_deleted
from fairlead_relay.store.events import ToldProgress, append_progress
from fairlead_relay.store.jobs import JOB_COLUMNS, Job, Transition, is_one_of, job_of
from fairlead_relay.store.leases import IS_HOLDER, Holding
from fairlead_relay.store.schema import jobs
from fairlead_shared.jobs import JobEvent, JobKind, JobState
from fairlead_shared.progress import Outcome, ResultEvent


def _ending(event: JobEvent) -> Transition:
    return Transition(
        event,
        *IS_HOLDER,
        outcome=bindparam("new_outcome"),
        code=bindparam("new_code"),
        cause=bindparam("new_cause"),
        counts=bindparam("new_counts"),
    )


_FAIL: Final = _ending(JobEvent.FAIL)
_ENDS: Final[Mapping[Outcome, tuple[Transition, ...]]] = {
    Outcome.SUCCEEDED: (_ending(JobEvent.SUCCEED),),
    # A refusal after the accept is a failure: something may have been changed already.
    Outcome.FAILED: (_FAIL,),
    Outcome.REFUSED: (_FAIL,),
    # An agent that stopped by itself, without having been asked, did not do what it was asked to do.
    Outcome.CANCELLED: (_ending(JobEvent.CONFIRM_CANCEL), _FAIL),
    Outcome.SUPERSEDED: (_ending(JobEvent.CONFIRM_SUPERSEDE), _FAIL),
}
"""What a result does to its job: the first that the job's state allows."""

_FIELDS: Final = {"job_id": String, "token": BigInteger, "session_id": String, "first": BigInteger, "last": BigInteger}
"""What is told of each report to the one statement that takes all of them."""


def _taking(told: Mapping[str, ColumnElement[Any]]) -> Update:
    """Raise the number to acknowledge of each job that is its reporter's, and of which nothing is missing before."""
    return (
        update(jobs)
        .where(
            jobs.c.id == told["job_id"],
            jobs.c.token == told["token"],
            jobs.c.holder == told["session_id"],
            is_one_of(jobs.c.state, JobState.RUNNING, JobState.CANCELLING),
            jobs.c.acknowledged_seq >= told["first"] - 1,
        )
        .values(
            acknowledged_seq=case((jobs.c.acknowledged_seq < told["last"], told["last"]), else_=jobs.c.acknowledged_seq)
        )
        .returning(*JOB_COLUMNS)
    )


def _told_to_sqlite() -> Mapping[str, ColumnElement[Any]]:
    each = func.json_each(bindparam("told")).table_valued("value")
    return {name: func.json_extract(each.c.value, literal_column(f"'$.{name}'")) for name in _FIELDS}


def _told_to_postgresql() -> Mapping[str, ColumnElement[Any]]:
    columns: list[ColumnClause[Any]] = [column(name, kind) for name, kind in _FIELDS.items()]
    told = func.jsonb_to_recordset(cast(bindparam("told", type_=String), postgresql.JSONB)).table_valued(*columns)
    return dict(told.render_derived(name="told", with_types=True).c)


# Rows of any number as one parameter, so that the statement stays the same: a function of each database for it.
_TAKE: Final = {"sqlite": _taking(_told_to_sqlite()), "postgresql": _taking(_told_to_postgresql())}


@dataclass(frozen=True, slots=True)
class Reported:
    """Consecutive events of one job, as they arrived."""

    holding: Holding
    events: Sequence[tuple[int, str, str]]
    """(seq, key, JSON of the event), numbered without a gap; never empty."""
    result: ResultEvent | None
    """The last event when it ends the job."""


OnFailed = Callable[[Connection, Job], None]
"""What is to happen when a job failed, in the transaction in which it did."""


def record_progress(
    connection: Connection,
    reports: Sequence[tuple[Sequence[Reported], float]],
    on_failed: OnFailed = lambda _connection, _job: None,
) -> list[dict[str, int]]:
    """
    Store what agents reported, and end the jobs whose result is among it.

    Args:
        connection: In a write.
        reports: Of each connection: at most one entry per job, and seconds since the epoch.
        on_failed: Called for each job that failed by its agent's word.
    Returns: For each, job id → highest number stored, to be acknowledged. A job that is missing is not (or no longer)
        the reporter's.
    """
    stored: list[dict[str, int]] = [{} for _ in reports]
    told: list[ToldProgress] = []
    ending: dict[Holding, tuple[ResultEvent, float]] = {}
    waiting = [(number, report) for number, (reported, _) in enumerate(reports) for report in reported]
    while waiting:
        # Of each job the first: the next goes on where that ended.
        firsts: dict[str, tuple[int, Reported]] = {}
        later = [one for one in waiting if firsts.setdefault(one[1].holding.job_id, one) is not one]
        taken = _take(connection, [report for _, report in firsts.values()])
        for number, report in firsts.values():
            job = taken.get(report.holding.job_id)
            if job is None:
                continue
            now = reports[number][1]
            told.append(ToldProgress(job.story, report.events, now))
            stored[number][job.id] = job.acknowledged_seq
            if report.result is not None:
                ending[report.holding] = (report.result, now)
        # A job that ends here takes no more, though its state is not written yet.
        waiting = [(number, report) for number, report in later if report.holding not in ending]
    append_progress(connection, told)
    # Last, since the record of its end closes a job's story.
    for holding, (result, now) in ending.items():
        ended = _end(connection, holding, result, now)
        if ended is not None and ended.state is JobState.FAILED:
            on_failed(connection, ended)
    return stored


def _take(connection: Connection, reports: Sequence[Reported]) -> Mapping[str, Job]:
    """Raise the numbers to acknowledge of several jobs. Returns: Those that took their report, by id."""
    told = [
        {
            "job_id": report.holding.job_id,
            "token": report.holding.token,
            "session_id": report.holding.session_id,
            "first": report.events[0][0],
            "last": report.events[-1][0],
        }
        for report in reports
    ]
    rows = connection.execute(_TAKE[connection.dialect.name], {"told": json.dumps(told)})
    return {job.id: job for job in map(job_of, rows)}


def _end(connection: Connection, holding: Holding, result: ResultEvent, now: float) -> Job | None:
    facts = {
        "new_outcome": str(result.outcome),
        "new_code": None if result.code is None else str(result.code),
        "new_cause": result.cause,
        "new_counts": json.dumps({str(action): count for action, count in result.counts.items()}),
    }
    for end in _ENDS[result.outcome]:
        for job in end.apply(connection, now, **holding.parameters(), **facts):
            if job.kind == JobKind.DESTROY and job.state is JobState.SUCCEEDED:
                mark_deleted(connection, (job.organization, str(job.application), str(job.environment)), now)
            return job
    return None
