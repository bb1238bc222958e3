"""
Leases: which job an agent gets next, how it answers, and what happens when time runs out.

A lease is the right of one session to run one job until a time. Its fencing token rises with each lease, so that
whatever a former holder still says is recognised and ignored. Every function here is one compare-and-set, a
`jobs.Transition`.

Must not: look at what an agent reports (progress.py), or settle jobs after a lost connection (sessions.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, and_, bindparam, case, exists, false, func, literal, or_, select, tuple_, update

from fairlead_relay.store.jobs import JOB_COLUMNS, NOW, Job, Stop, Transition, is_one_of, job_of
from fairlead_relay.store.plans import plan_content
from fairlead_relay.store.schema import agents, bundles, deployments, jobs
from fairlead_shared.errors import ErrorCode
from fairlead_shared.jobs import HELD_STATES, JobEvent, JobKind, JobState
from fairlead_shared.progress import Outcome


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

    def parameters(self) -> dict[str, object]:
        """Return the values for a statement whose guard is IS_HOLDER."""
        return {"of_job": self.job_id, "of_token": self.token, "of_session": self.session_id}


IS_HOLDER: Final = (
    jobs.c.id == bindparam("of_job"),
    jobs.c.token == bindparam("of_token"),
    jobs.c.holder == bindparam("of_session"),
)
"""The part of a compare-and-set that lets only the true holder through."""

_older = jobs.alias("older")
_waiting = jobs.alias("waiting")
_held = jobs.alias("held")
_FIRST_IN_LINE: Final = ~exists().where(
    _older.c.organization == _waiting.c.organization,
    _older.c.application == _waiting.c.application,
    _older.c.environment == _waiting.c.environment,
    _older.c.finished_at.is_(None),
    _older.c.exclusive,
    _older.c.sequence < _waiting.c.sequence,
)
_OLDEST_RUNNABLE: Final = (
    select(_waiting.c.sequence)
    .where(
        _waiting.c.organization == bindparam("of_organization"),
        _waiting.c.cluster == bindparam("of_cluster"),
        is_one_of(_waiting.c.state, JobState.QUEUED),
        _waiting.c.finished_at.is_(None),
        _waiting.c.deadline > NOW,
        or_(_waiting.c.runnable_at.is_(None), _waiting.c.runnable_at <= NOW),
        or_(_waiting.c.exclusive == false(), _FIRST_IN_LINE),
        # What a newer relay asked for waits for one: this one does not know what to offer with it.
        is_one_of(_waiting.c.kind, *JobKind),
    )
    .order_by(_waiting.c.priority.desc(), _waiting.c.sequence)
    .limit(1)
)
_HELD_JOBS: Final = select(func.count()).where(
    _held.c.organization == bindparam("of_organization"),
    _held.c.cluster == bindparam("of_cluster"),
    is_one_of(_held.c.state, *HELD_STATES),
    _held.c.finished_at.is_(None),
)
_LEASE: Final = Transition(
    JobEvent.LEASE,
    jobs.c.sequence == _OLDEST_RUNNABLE.scalar_subquery(),
    _HELD_JOBS.scalar_subquery() < bindparam("of_limit"),
    exists().where(agents.c.session_id == bindparam("of_session")),
    token=jobs.c.token + 1,
    holder=bindparam("of_session"),
    leased_at=NOW,
    lease_expires_at=bindparam("new_expiry"),
    runnable_at=None,
    reason="",
)
_CONTENT: Final = (
    select(deployments.c.envelope, bundles.c.size_bytes)
    .join_from(
        deployments,
        bundles,
        and_(bundles.c.organization == deployments.c.organization, bundles.c.sha256 == deployments.c.bundle_sha256),
    )
    .where(deployments.c.id == bindparam("deployment_id"))
)


def lease_next(connection: Connection, to: LeaseTo, now: float) -> LeasedJob | None:
    """
    Lease the oldest runnable job of a session's cluster, in one statement.

    Runnable is what is queued, due, before its deadline, of a kind that this relay knows and, if it changes an
    environment, the first of those that do so.

    Args:
        connection: In a write.
        to: The session that is to hold it.
        now: Seconds since the epoch.
    Returns: The job, now `leased` with a new token; None if none is runnable, the limit is reached or the session is
        not the agent's newest.
    """
    leased = _LEASE.apply(
        connection,
        now,
        of_session=to.session_id,
        of_organization=to.organization,
        of_cluster=to.cluster,
        of_limit=to.job_limit,
        new_expiry=now + to.lease_seconds,
    )
    return _with_content(connection, leased[0]) if leased else None


def _with_content(connection: Connection, job: Job) -> LeasedJob:
    if job.kind == JobKind.PLAN:
        return LeasedJob(job, *plan_content(connection, job.id))
    if job.deployment_id is None:
        return LeasedJob(job, None, 0)
    envelope, size = connection.execute(_CONTENT, {"deployment_id": job.deployment_id}).one()
    return LeasedJob(job, envelope, size)


_IS_HELD: Final = select(literal(1)).select_from(jobs).where(*IS_HOLDER)


def is_held_by(connection: Connection, holding: Holding) -> bool:
    """Tell whether a claim is true: the session holds the job under that token."""
    return connection.scalar(_IS_HELD, holding.parameters()) is not None


_ACCEPT: Final = Transition(
    JobEvent.ACCEPT, *IS_HOLDER, started_at=func.coalesce(jobs.c.started_at, NOW), leased_at=None
)


def accept_jobs(connection: Connection, accepted: Sequence[tuple[Holding, float]]) -> list[bool]:
    """
    Note that agents took jobs.

    Args:
        connection: In a write.
        accepted: Whose claim, and seconds since the epoch.
    Returns: For each: True also when it was told to stop meanwhile; False when the job is not (or no longer) its own.
    """
    started = _ACCEPT.apply_each(connection, [(now, holding.parameters()) for holding, now in accepted])
    return [
        bool(changed) or is_held_by(connection, holding)
        for changed, (holding, _) in zip(started, accepted, strict=True)
    ]


_REFUSE: Final = Transition(
    JobEvent.REFUSE,
    *IS_HOLDER,
    outcome=str(Outcome.REFUSED),
    code=bindparam("new_code"),
    cause=bindparam("new_cause"),
)


def refuse_job(connection: Connection, holding: Holding, code: ErrorCode, message: str, now: float) -> bool:
    """
    Note that an agent's own rules said no; nothing was changed.

    Returns: False when the job is not (or no longer) its own.
    """
    refused = _REFUSE.apply(connection, now, **holding.parameters(), new_code=str(code), new_cause=message)
    return bool(refused) or _confirm_stop(connection, holding, now)


_HAND_BACK: Final = Transition(
    JobEvent.HAND_BACK, *IS_HOLDER, runnable_at=bindparam("new_runnable_at"), reason=bindparam("new_reason")
)


def hand_back_job(connection: Connection, holding: Holding, delay_seconds: float, reason: str, now: float) -> bool:
    """
    Put an offered job back into the queue, to be leased again after a delay.

    Returns: False when the job is not (or no longer) its own.
    """
    back = _HAND_BACK.apply(
        connection, now, **holding.parameters(), new_runnable_at=now + delay_seconds, new_reason=reason
    )
    return bool(back) or _confirm_stop(connection, holding, now)


def _stopped_before(event: JobEvent, stop: Stop, outcome: Outcome) -> Transition:
    return Transition(
        event,
        *IS_HOLDER,
        jobs.c.stop == stop,
        outcome=str(outcome),
        code=str(ErrorCode.CANCELLED),
        cause="stopped before its agent took it",
    )


_STOPPED_BEFORE: Final = (
    _stopped_before(JobEvent.CONFIRM_CANCEL, "cancel", Outcome.CANCELLED),
    _stopped_before(JobEvent.CONFIRM_SUPERSEDE, "supersede", Outcome.SUPERSEDED),
)


def _confirm_stop(connection: Connection, holding: Holding, now: float) -> bool:
    """End a job whose agent did not take it, while it was being told to stop: there is nothing left to stop."""
    return any(stopped.apply(connection, now, **holding.parameters()) for stopped in _STOPPED_BEFORE)


_UNANSWERED: Final = Transition(
    JobEvent.HAND_BACK,
    jobs.c.leased_at < bindparam("of_leased_before"),
    jobs.c.holder.is_not(None),
    reason=bindparam("new_reason"),
)


def hand_back_unanswered(connection: Connection, answer_seconds: float, now: float) -> list[Job]:
    """Put back offers that no agent answered in time; its late answer will carry an old token."""
    reason = f"its agent did not answer the offer within {answer_seconds:.0f} s"
    return _UNANSWERED.apply(connection, now, of_leased_before=now - answer_seconds, new_reason=reason)


_HAND_BACK_OFFERS: Final = Transition(
    JobEvent.HAND_BACK, jobs.c.holder == bindparam("of_session"), reason="its relay stopped before the agent answered"
)


def hand_back_offers(connection: Connection, session_id: str, now: float) -> list[Job]:
    """Put back at once what a session was offered and did not answer, since its relay stops."""
    return _HAND_BACK_OFFERS.apply(connection, now, of_session=session_id)


_PULL_BACK: Final = (
    update(jobs)
    .where(
        jobs.c.finished_at.is_(None),
        or_(jobs.c.runnable_at > bindparam("of_runnable_before"), jobs.c.leased_at > NOW),
    )
    .values(
        runnable_at=case((jobs.c.runnable_at > NOW, NOW), else_=jobs.c.runnable_at),
        leased_at=case((jobs.c.leased_at > NOW, NOW), else_=jobs.c.leased_at),
    )
)


def pull_back(connection: Connection, busy_seconds: float, now: float) -> None:
    """
    Let no job wait for a time that is far away because the clock went back.

    Args:
        connection: In a write.
        busy_seconds: The longest that a job is put off.
        now: Seconds since the epoch.
    """
    connection.execute(_PULL_BACK, {"now": now, "of_runnable_before": now + busy_seconds})


_IS_OVERDUE: Final = or_(jobs.c.lease_expires_at <= NOW, jobs.c.deadline <= bindparam("of_deadline"))
_OVERDUE_HOLDERS: Final = (
    select(jobs.c.holder).where(jobs.c.holder.is_not(None), jobs.c.finished_at.is_(None), _IS_OVERDUE).distinct()
)
_END_SESSIONS: Final = (
    update(agents)
    .where(agents.c.session_id.in_(bindparam("of_sessions", expanding=True)))
    .values(session_id=None, relay_id=None)
)
_LOSE_OVERDUE: Final = Transition(
    JobEvent.LOSE,
    jobs.c.holder.in_(bindparam("of_sessions", expanding=True)),
    reason=case(
        (_IS_OVERDUE, "its agent let the lease or the deadline pass"), else_="its agent's connection was closed"
    ),
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
    late = {"of_deadline": now - grace_seconds}
    holders = connection.scalars(_OVERDUE_HOLDERS, {"now": now, **late}).all()
    if not holders:
        return []
    connection.execute(_END_SESSIONS, {"of_sessions": holders})
    return _LOSE_OVERDUE.apply(connection, now, **late, of_sessions=holders)


_IS_QUEUED: Final = is_one_of(jobs.c.state, JobState.QUEUED)
_IS_CONNECTED: Final = exists().where(
    agents.c.organization == jobs.c.organization, agents.c.cluster == jobs.c.cluster, agents.c.session_id.is_not(None)
)
_EXPIRE: Final = Transition(
    JobEvent.EXPIRE,
    jobs.c.deadline <= NOW,
    jobs.c.finished_at.is_(None),
    outcome=case((_IS_QUEUED, jobs.c.outcome), else_=str(Outcome.FAILED)),
    code=str(ErrorCode.DEADLINE),
    cause=case(
        (and_(_IS_QUEUED, _IS_CONNECTED), "its deadline passed before its agent took it"),
        (_IS_QUEUED, "its deadline passed while it waited for agent: not connected"),
        else_="its agent did not come back before the deadline, so how it ended is not known",
    ),
)


def expire_overdue(connection: Connection, now: float) -> list[Job]:
    """End jobs whose deadline passed while no agent had them, or while theirs was away."""
    return _EXPIRE.apply(connection, now)


_IS_DUE: Final = and_(_IS_QUEUED, or_(jobs.c.runnable_at.is_(None), jobs.c.runnable_at <= NOW))
_WITH_WORK: Final = (
    select(jobs.c.organization, jobs.c.cluster)
    .join(agents, and_(agents.c.organization == jobs.c.organization, agents.c.cluster == jobs.c.cluster))
    .where(
        agents.c.session_id.is_not(None),
        jobs.c.finished_at.is_(None),
        or_(_IS_DUE, is_one_of(jobs.c.state, JobState.CANCELLING)),
    )
    .distinct()
)


def clusters_with_work(connection: Connection, now: float) -> list[tuple[str, str]]:
    """Return (organization, cluster) of connected agents for which jobs are queued and due: what a lost notice hid."""
    return [(organization, cluster) for organization, cluster in connection.execute(_WITH_WORK, {"now": now})]


@dataclass(frozen=True, slots=True)
class ClusterWork:
    """What there is to do for a cluster's agent."""

    queued: int
    """Jobs that are due, some of them perhaps behind others of their environment."""
    held: int
    """Jobs that some session holds; they count towards `LeaseTo.job_limit`."""
    stopping: int
    """Jobs that are to be told to stop."""


_IS_WITH_SOME_SESSION: Final = is_one_of(jobs.c.state, *HELD_STATES)
_WORK: Final = (
    select(
        jobs.c.organization,
        jobs.c.cluster,
        func.sum(case((_IS_DUE, 1), else_=0)),
        func.sum(case((_IS_WITH_SOME_SESSION, 1), else_=0)),
        func.sum(case((is_one_of(jobs.c.state, JobState.CANCELLING), 1), else_=0)),
    )
    .where(
        tuple_(jobs.c.organization, jobs.c.cluster).in_(bindparam("of_clusters", expanding=True)),
        jobs.c.finished_at.is_(None),
        or_(_IS_DUE, _IS_WITH_SOME_SESSION),
    )
    .group_by(jobs.c.organization, jobs.c.cluster)
)


def find_work(
    connection: Connection, clusters: Collection[tuple[str, str]], now: float
) -> dict[tuple[str, str], ClusterWork]:
    """Return what there is to do for which of some clusters, given as (organization, cluster); others are missing."""
    found = connection.execute(_WORK, {"of_clusters": list(clusters), "now": now})
    return {(organization, cluster): ClusterWork(*counts) for organization, cluster, *counts in found}


_STOPPING: Final = (
    select(*JOB_COLUMNS)
    .where(jobs.c.holder == bindparam("session_id"), is_one_of(jobs.c.state, JobState.CANCELLING))
    .order_by(jobs.c.sequence)
)


def stopping_jobs(connection: Connection, session_id: str) -> list[Job]:
    """Return the jobs that a session holds and must be told to stop."""
    return [job_of(row) for row in connection.execute(_STOPPING, {"session_id": session_id})]
