"""Why a job waits, in one sentence, worked out when somebody asks. Must not be stored: it would be stale at once."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, func, select

from fairlead_relay.store.clusters import find_cluster
from fairlead_relay.store.jobs import Job, is_one_of
from fairlead_relay.store.outbox import iso_time
from fairlead_relay.store.schema import jobs
from fairlead_shared.jobs import HELD_STATES, JobKind, JobState

_AHEAD: Final = (
    select(jobs.c.id, jobs.c.deployment_id)
    .where(
        jobs.c.organization == bindparam("of_organization"),
        jobs.c.application == bindparam("of_application"),
        jobs.c.environment == bindparam("of_environment"),
        jobs.c.finished_at.is_(None),
        jobs.c.exclusive,
        jobs.c.sequence < bindparam("of_sequence"),
    )
    .order_by(jobs.c.sequence)
    .limit(1)
)
_HELD: Final = select(func.count()).where(
    jobs.c.organization == bindparam("of_organization"),
    jobs.c.cluster == bindparam("of_cluster"),
    is_one_of(jobs.c.state, *HELD_STATES),
    jobs.c.finished_at.is_(None),
)
"""Made once: every deployment that is asked for asks, and making a statement costs more than running one of these."""


def waiting_reason(connection: Connection, job: Job, job_limit: int, now: float) -> str:
    """
    Say why a job that is queued or unreachable does not go on.

    Args:
        connection: In a read or write.
        job: As just read.
        job_limit: How many jobs an agent may hold.
        now: Seconds since the epoch.
    Returns: One sentence; empty for a job that runs, has ended, or is about to be leased.
    """
    if job.state not in (JobState.QUEUED, JobState.UNREACHABLE):
        return ""
    cluster = find_cluster(connection, job.organization, job.cluster)
    if cluster.disabled_at is not None:
        return f"waits for cluster: disabled since {iso_time(cluster.disabled_at)}"
    if cluster.state == "unapproved":
        return "waits for agent: its enrolment is not approved yet"
    if cluster.agent is None:
        return "waits for agent: none has enrolled for this cluster yet"
    if cluster.agent.revoked_at is not None:
        return f"waits for agent: revoked since {iso_time(cluster.agent.revoked_at)}"
    if cluster.agent.session_id is None:
        since = cluster.agent.last_seen_at
        return "waits for agent: " + ("never connected" if since is None else f"offline since {iso_time(since)}")
    if job.state is JobState.UNREACHABLE:
        return f"waits for agent: {job.reason}" if job.reason else ""
    return _unknown(job) or _behind(connection, job) or _full(connection, job, job_limit) or _not_due(job, now)


def _unknown(job: Job) -> str:
    return "" if job.kind in tuple(JobKind) else f"waits for a newer relay: this one knows no jobs of kind '{job.kind}'"


def _not_due(job: Job, now: float) -> str:
    if job.runnable_at is None or job.runnable_at <= now:
        return ""
    return f"{job.reason}; offered again at {iso_time(job.runnable_at)}"


def _behind(connection: Connection, job: Job) -> str:
    if not job.exclusive:
        return ""
    this = {
        "of_organization": job.organization,
        "of_application": job.application,
        "of_environment": job.environment,
        "of_sequence": job.sequence,
    }
    ahead = connection.execute(_AHEAD, this).one_or_none()
    if ahead is None:
        return ""
    what = f"job {ahead.id}" if ahead.deployment_id is None else f"deployment {ahead.deployment_id}"
    return f"waits for {what} of the same environment"


def _full(connection: Connection, job: Job, job_limit: int) -> str:
    held = connection.scalar(_HELD, {"of_organization": job.organization, "of_cluster": job.cluster})
    return f"waits for agent: {held} jobs running" if held is not None and held >= job_limit else ""
