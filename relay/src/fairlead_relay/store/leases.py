"""
Leases: which job an agent gets next, how it answers, and what happens when time runs out.

A lease is the right of one session to run one job until a time. Its fencing token rises with each lease, so that
whatever a former holder still says is recognised and ignored. Every function here is one compare-and-set through
`jobs.transition`.

Must not: look at what an agent reports (progress.py), or settle jobs after a lost connection (sessions.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, case, exists, false, func, literal, or_, select, update

from fairlead_relay.store.jobs import JOB_COLUMNS, Job, job_of, transition
from fairlead_relay.store.schema import agents, bundles, deployments, jobs
from fairlead_shared.errors import ErrorCode
from fairlead_shared.jobs import HELD_STATES, JobEvent, JobState
from fairlead_shared.progress import Outcome

HELD: Final = sorted(HELD_STATES)


@dataclass(frozen=True, slots=True)
class LeasedJob:
    """A job as it is offered: leased to a session, with what the offer carries."""

    job: Job
    envelope: str | None
    """JSON of the deployment statement's envelope; None for kinds that only read."""
    bundle_bytes: int
    """Size of the bundle; 0 without one."""


@dataclass(frozen=True, slots=True)
class LeaseTo:
    """Who is to hold a job, and how."""

    session_id: str
    """The agent's connection; gets nothing unless it is the agent's newest."""
    organization: str
    cluster: str
    lease_seconds: float
    """Lease length, > 0; heartbeats renew it."""
    job_limit: int
    """How many jobs the agent may hold at the same time."""


@dataclass(frozen=True, slots=True)
class Holding:
    """A claim to a job, as its agent states it in a message."""

    session_id: str
    job_id: str
    token: int

    def guard(self) -> tuple[ColumnElement[bool], ...]:
        """Return the part of a compare-and-set that lets only the true holder through."""
        return (jobs.c.id == self.job_id, jobs.c.token == self.token, jobs.c.holder == self.session_id)


_older = jobs.alias("older")
_waiting = jobs.alias("waiting")
_held = jobs.alias("held")


def lease_next(connection: Connection, to: LeaseTo, now: float) -> LeasedJob | None:
    """
    Lease the oldest runnable job of a session's cluster, in one statement.

    Runnable is what is queued, due, before its deadline and, if it changes an environment, the first of those that do
    so.

    Args:
        connection: In a write.
        to: The session that is to hold it.
        now: Seconds since the epoch.
    Returns: The job, now `leased` with a new token; None if none is runnable, the limit is reached or the session is
        not the agent's newest.
    """
    first_in_line = ~exists().where(
        _older.c.organization == _waiting.c.organization,
        _older.c.application == _waiting.c.application,
        _older.c.environment == _waiting.c.environment,
        _older.c.finished_at.is_(None),
        _older.c.exclusive,
        _older.c.sequence < _waiting.c.sequence,
    )
    oldest_runnable = (
        select(_waiting.c.sequence)
        .where(
            _waiting.c.organization == to.organization,
            _waiting.c.cluster == to.cluster,
            _waiting.c.state == str(JobState.QUEUED),
            _waiting.c.finished_at.is_(None),
            _waiting.c.deadline > now,
            or_(_waiting.c.runnable_at.is_(None), _waiting.c.runnable_at <= now),
            or_(_waiting.c.exclusive == false(), first_in_line),
        )
        .order_by(_waiting.c.priority.desc(), _waiting.c.sequence)
        .limit(1)
    )
    held = select(func.count()).where(
        _held.c.organization == to.organization,
        _held.c.cluster == to.cluster,
        _held.c.state.in_(HELD),
        _held.c.finished_at.is_(None),
    )
    leased = transition(
        connection,
        JobEvent.LEASE,
        now,
        jobs.c.sequence == oldest_runnable.scalar_subquery(),
        held.scalar_subquery() < to.job_limit,
        exists().where(agents.c.session_id == to.session_id),
        token=jobs.c.token + 1,
        holder=to.session_id,
        leased_at=now,
        lease_expires_at=now + to.lease_seconds,
        runnable_at=None,
        reason="",
    )
    return _with_content(connection, leased[0]) if leased else None


def _with_content(connection: Connection, job: Job) -> LeasedJob:
    if job.deployment_id is None:
        return LeasedJob(job, None, 0)
    envelope, size = connection.execute(
        select(deployments.c.envelope, bundles.c.size_bytes)
        .join_from(
            deployments,
            bundles,
            and_(bundles.c.organization == deployments.c.organization, bundles.c.sha256 == deployments.c.bundle_sha256),
        )
        .where(deployments.c.id == job.deployment_id)
    ).one()
    return LeasedJob(job, envelope, size)


def is_held_by(connection: Connection, holding: Holding) -> bool:
    """Tell whether a claim is true: the session holds the job under that token."""
    return connection.scalar(select(literal(1)).select_from(jobs).where(*holding.guard())) is not None


def accept_job(connection: Connection, holding: Holding, now: float) -> bool:
    """
    Note that an agent took a job.

    Returns: True also when it was told to stop meanwhile; False when the job is not (or no longer) its own.
    """
    started = transition(
        connection, JobEvent.ACCEPT, now, *holding.guard(), started_at=func.coalesce(jobs.c.started_at, now)
    )
    return bool(started) or is_held_by(connection, holding)


def refuse_job(connection: Connection, holding: Holding, code: ErrorCode, message: str, now: float) -> bool:
    """
    Note that an agent's own rules said no; nothing was changed.

    Returns: False when the job is not (or no longer) its own.
    """
    words = {"outcome": str(Outcome.REFUSED), "code": str(code), "cause": message}
    return bool(
        transition(connection, JobEvent.REFUSE, now, *holding.guard(), **words)
        or _confirm_stop(connection, holding, now)
    )


def hand_back_job(connection: Connection, holding: Holding, delay_seconds: float, reason: str, now: float) -> bool:
    """
    Put an offered job back into the queue, to be leased again after a delay.

    Returns: False when the job is not (or no longer) its own.
    """
    back = transition(
        connection, JobEvent.HAND_BACK, now, *holding.guard(), runnable_at=now + delay_seconds, reason=reason
    )
    return bool(back) or _confirm_stop(connection, holding, now)


def _confirm_stop(connection: Connection, holding: Holding, now: float) -> bool:
    """End a job whose agent did not take it, while it was being told to stop: there is nothing left to stop."""
    return any(
        transition(
            connection,
            event,
            now,
            *holding.guard(),
            jobs.c.stop == stop,
            outcome=str(outcome),
            code=str(ErrorCode.CANCELLED),
            cause="stopped before its agent took it",
        )
        for event, stop, outcome in (
            (JobEvent.CONFIRM_CANCEL, "cancel", Outcome.CANCELLED),
            (JobEvent.CONFIRM_SUPERSEDE, "supersede", Outcome.SUPERSEDED),
        )
    )


def hand_back_unanswered(connection: Connection, answer_seconds: float, now: float) -> list[Job]:
    """Put back offers that no agent answered in time; its late answer will carry an old token."""
    return transition(
        connection,
        JobEvent.HAND_BACK,
        now,
        jobs.c.leased_at < now - answer_seconds,
        jobs.c.holder.is_not(None),
        reason=f"its agent did not answer the offer within {answer_seconds:.0f} s",
    )


def lose_overdue(connection: Connection, grace_seconds: float, now: float) -> list[Job]:
    """
    End the sessions that let a lease run out, or say nothing of a job's end long after its deadline.

    All their jobs become unreachable: a session that failed one may not be given another, whichever relay holds it.

    Args:
        connection: In a write.
        grace_seconds: How long after its deadline an agent has to report the end.
        now: Seconds since the epoch.
    """
    overdue = or_(jobs.c.lease_expires_at <= now, jobs.c.deadline <= now - grace_seconds)
    holders = connection.scalars(
        select(jobs.c.holder).where(jobs.c.holder.is_not(None), jobs.c.finished_at.is_(None), overdue).distinct()
    ).all()
    if not holders:
        return []
    connection.execute(update(agents).where(agents.c.session_id.in_(holders)).values(session_id=None, relay_id=None))
    late = case((overdue, "its agent let the lease or the deadline pass"), else_="its agent's connection was closed")
    return transition(connection, JobEvent.LOSE, now, jobs.c.holder.in_(holders), reason=late)


def expire_overdue(connection: Connection, now: float) -> list[Job]:
    """End jobs whose deadline passed while no agent had them, or while theirs was away."""
    queued = jobs.c.state == str(JobState.QUEUED)
    return transition(
        connection,
        JobEvent.EXPIRE,
        now,
        jobs.c.deadline <= now,
        jobs.c.finished_at.is_(None),
        outcome=case((queued, jobs.c.outcome), else_=str(Outcome.FAILED)),
        code=str(ErrorCode.DEADLINE),
        cause=case(
            (queued, "its deadline passed before an agent took it"),
            else_="its agent did not come back before the deadline, so how it ended is not known",
        ),
    )


def clusters_with_work(connection: Connection, now: float) -> list[tuple[str, str]]:
    """Return (organization, cluster) of connected agents for which jobs are queued and due: what a lost notice hid."""
    rows = connection.execute(
        select(jobs.c.organization, jobs.c.cluster)
        .join(agents, and_(agents.c.organization == jobs.c.organization, agents.c.cluster == jobs.c.cluster))
        .where(
            agents.c.session_id.is_not(None),
            jobs.c.finished_at.is_(None),
            or_(
                and_(
                    jobs.c.state == str(JobState.QUEUED),
                    or_(jobs.c.runnable_at.is_(None), jobs.c.runnable_at <= now),
                ),
                jobs.c.state == str(JobState.CANCELLING),
            ),
        )
        .distinct()
    )
    return [(organization, cluster) for organization, cluster in rows]


def stopping_jobs(connection: Connection, session_id: str) -> list[Job]:
    """Return the jobs that a session holds and must be told to stop."""
    rows = connection.execute(
        select(*JOB_COLUMNS)
        .where(jobs.c.holder == session_id, jobs.c.state == str(JobState.CANCELLING))
        .order_by(jobs.c.sequence)
    )
    return [job_of(row) for row in rows]
