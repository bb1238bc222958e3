"""Lists of jobs: an organization's, newest first, as far as a filter lets through. Must not change a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from fairlead_relay.store.jobs import JOB_COLUMNS, Job, job_of
from fairlead_relay.store.schema import jobs
from fairlead_shared.jobs import JobKind, JobState


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs of an organization; a field that is empty asks for nothing."""

    states: Sequence[JobState] = ()
    """Any of them."""
    kind: JobKind | None = None
    cluster: str | None = None
    application: str | None = None
    environment: str | None = None


def list_jobs(
    connection: Connection, organization: str, wanted: JobFilter, limit: int, before: int | None = None
) -> list[Job]:
    """Return at most `limit` jobs, newest first, those stored before the sequence `before`; empty at the end."""
    query = select(*JOB_COLUMNS).where(jobs.c.organization == organization)
    if wanted.states:
        query = query.where(jobs.c.state.in_(sorted(set(wanted.states))))
    for column in ("kind", "cluster", "application", "environment"):
        if (value := getattr(wanted, column)) is not None:
            query = query.where(jobs.c[column] == value)
    if before is not None:
        query = query.where(jobs.c.sequence < before)
    return [job_of(row) for row in connection.execute(query.order_by(jobs.c.sequence.desc()).limit(limit))]
