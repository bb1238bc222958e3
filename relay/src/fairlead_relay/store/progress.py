"""
What agents report about their jobs: numbered events, and the result that ends a job.

An event is stored at most once: by number, because a reconnecting agent sends again what was not acknowledged, and by
key, because one that lost its spool derives its events again. The result's event and the final state share one
transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, case, update

from fairlead_relay.store.events import append_progress
from fairlead_relay.store.jobs import JOB_COLUMNS, job_of, transition
from fairlead_relay.store.leases import Holding
from fairlead_relay.store.schema import jobs
from fairlead_shared.jobs import JobEvent, JobState
from fairlead_shared.progress import Outcome, ResultEvent

_ENDS: Final[Mapping[Outcome, JobEvent]] = {
    Outcome.SUCCEEDED: JobEvent.SUCCEED,
    Outcome.FAILED: JobEvent.FAIL,
    Outcome.REFUSED: JobEvent.FAIL,
    Outcome.CANCELLED: JobEvent.CONFIRM_CANCEL,
    Outcome.SUPERSEDED: JobEvent.CONFIRM_SUPERSEDE,
}
"""A refusal after the accept is a failure: something may have been changed already."""


@dataclass(frozen=True, slots=True)
class Reported:
    """Consecutive events of one job, as they arrived."""

    holding: Holding
    events: Sequence[tuple[int, str, str]]
    """(seq, key, JSON of the event), numbered without a gap; never empty."""
    result: ResultEvent | None
    """The last event when it ends the job."""


def record_progress(connection: Connection, reported: Sequence[Reported], now: float) -> dict[str, int]:
    """
    Store what agents reported, and end the jobs whose result is among it.

    Args:
        connection: In a write.
        reported: At most one entry per job.
        now: Seconds since the epoch.
    Returns: Job id → highest number stored, to be acknowledged. A job that is missing is not (or no longer) the
    reporter's.
    """
    stored: dict[str, int] = {}
    for report in reported:
        first, last = report.events[0][0], report.events[-1][0]
        row = connection.execute(
            update(jobs)
            .where(
                *report.holding.guard(),
                jobs.c.state.in_((str(JobState.RUNNING), str(JobState.CANCELLING))),
                jobs.c.acknowledged_seq >= first - 1,
            )
            .values(acknowledged_seq=case((jobs.c.acknowledged_seq < last, last), else_=jobs.c.acknowledged_seq))
            .returning(*JOB_COLUMNS)
        ).one_or_none()
        if row is None:
            continue
        job = job_of(row)
        append_progress(connection, job.story, report.events, now)
        stored[job.id] = job.acknowledged_seq
        if report.result is not None:
            _end(connection, report.holding, report.result, now)
    return stored


def _end(connection: Connection, holding: Holding, result: ResultEvent, now: float) -> None:
    facts = {
        "outcome": str(result.outcome),
        "code": None if result.code is None else str(result.code),
        "cause": result.cause,
        "counts": json.dumps({str(action): count for action, count in result.counts.items()}),
    }
    event = _ENDS[result.outcome]
    # An agent that stopped by itself, without having been asked, did not do what it was asked to do.
    for attempt in (event, JobEvent.FAIL) if event is not JobEvent.SUCCEED else (event,):
        if transition(connection, attempt, now, *holding.guard(), **facts):
            return
