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
from typing import Final

from sqlalchemy import Connection, bindparam, case, update

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

_TAKE: Final = (
    update(jobs)
    .where(
        *IS_HOLDER,
        is_one_of(jobs.c.state, (JobState.RUNNING, JobState.CANCELLING)),
        jobs.c.acknowledged_seq >= bindparam("of_seq_before"),
    )
    .values(
        acknowledged_seq=case(
            (jobs.c.acknowledged_seq < bindparam("new_seq"), bindparam("new_seq")), else_=jobs.c.acknowledged_seq
        )
    )
    .returning(*JOB_COLUMNS)
)


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
    stored: list[dict[str, int]] = []
    told: list[ToldProgress] = []
    ending: dict[Holding, tuple[ResultEvent, float]] = {}
    for reported, now in reports:
        stored.append({})
        for report in reported:
            # A job that ends here takes no more, though its state is not written yet.
            job = None if report.holding in ending else _take(connection, report)
            if job is None:
                continue
            told.append(ToldProgress(job.story, report.events, now))
            stored[-1][job.id] = job.acknowledged_seq
            if report.result is not None:
                ending[report.holding] = (report.result, now)
    append_progress(connection, told)
    # Last, since the record of its end closes a job's story.
    for holding, (result, now) in ending.items():
        ended = _end(connection, holding, result, now)
        if ended is not None and ended.state is JobState.FAILED:
            on_failed(connection, ended)
    return stored


def _take(connection: Connection, report: Reported) -> Job | None:
    """Raise a job's number to acknowledge, if it is the reporter's and nothing is missing before."""
    first, last = report.events[0][0], report.events[-1][0]
    holder = report.holding.parameters()
    row = connection.execute(_TAKE, {**holder, "of_seq_before": first - 1, "new_seq": last}).one_or_none()
    return None if row is None else job_of(row)


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
