"""
Sessions: which connection speaks for an agent, and how both sides agree on its jobs after any absence.

The newest connection wins. What older ones held becomes `unreachable` and is settled at once by the list of jobs in the
new one's hello: a job that the agent lists under its current token goes on, any other runs again: as a new attempt,
unless its offer was never answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Connection, bindparam, case, func, select, tuple_, update

from fairlead_relay.store.access import Presented, check_agent, note_presented
from fairlead_relay.store.jobs import JOB_COLUMNS, NOW, Job, Transition, is_one_of, job_of
from fairlead_relay.store.schema import agents, jobs
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import Hello, JobVerdict
from fairlead_shared.identity import AgentIdentity
from fairlead_shared.jobs import HELD_STATES, JobEvent, JobState
from fairlead_shared.progress import Outcome

_VERDICTS: Final[Mapping[str | None, Literal["continue", "cancel", "supersede"]]] = {
    None: "continue",
    "cancel": "cancel",
    "supersede": "supersede",
}


@dataclass(frozen=True, slots=True)
class NewSession:
    """An agent's connection, after its hello."""

    id: str
    relay_id: str
    """Which relay holds the connection."""
    identity: AgentIdentity
    """From the certificate."""
    certificate: Presented | None = None
    """What it showed; None only where a test has none."""


_TAKE_OVER: Final = (
    update(agents)
    .where(
        agents.c.organization == bindparam("of_organization"),
        agents.c.cluster == bindparam("of_cluster"),
        agents.c.name == bindparam("of_agent"),
    )
    .values(
        session_id=bindparam("new_session"),
        relay_id=bindparam("new_relay"),
        version=bindparam("new_version"),
        kubernetes_version=bindparam("new_kubernetes_version"),
        replica=bindparam("new_replica"),
        sealing_key=bindparam("new_sealing_key"),
        connected_at=NOW,
        last_seen_at=NOW,
    )
)
_OF_CLUSTER: Final = (
    jobs.c.organization == bindparam("of_organization"),
    jobs.c.cluster == bindparam("of_cluster"),
    jobs.c.finished_at.is_(None),
)
_LOSE_TO_NEWER: Final = Transition(
    JobEvent.LOSE,
    *_OF_CLUSTER,
    jobs.c.holder != bindparam("of_session"),
    reason="a newer connection of its agent took over",
)
_UNREACHABLE: Final = (
    select(*JOB_COLUMNS).where(*_OF_CLUSTER, is_one_of(jobs.c.state, JobState.UNREACHABLE)).order_by(jobs.c.sequence)
)


def open_session(
    connection: Connection, session: NewSession, hello: Hello, lease_seconds: float, now: float
) -> tuple[JobVerdict, ...]:
    """
    Make a connection the one that speaks for its agent, and settle every job of the cluster.

    Args:
        connection: In a write.
        session: The new connection.
        hello: The agent's first message.
        lease_seconds: Lease length of the jobs that go on.
        now: Seconds since the epoch.
    Returns: A verdict for each job in the hello.
    Raises: AgentRefused: it may not connect, e.g. since it was removed after its certificate was issued.
    """
    identity, presented = session.identity, session.certificate
    check_agent(connection, identity, None if presented is None else presented.made_at)
    if presented is not None:
        note_presented(connection, identity, presented)
    connection.execute(
        _TAKE_OVER,
        {
            "of_organization": identity.organization,
            "of_cluster": identity.cluster,
            "of_agent": identity.agent,
            "new_session": session.id,
            "new_relay": session.relay_id,
            "new_version": hello.agent_version,
            "new_kubernetes_version": hello.kubernetes_version,
            "new_replica": hello.replica,
            "new_sealing_key": hello.sealing_key,
            "now": now,
        },
    )
    of_cluster = {"of_organization": identity.organization, "of_cluster": identity.cluster}
    _LOSE_TO_NEWER.apply(connection, now, **of_cluster, of_session=session.id)
    listed = {job.job_id: job.token for job in hello.jobs}
    unreachable = connection.execute(_UNREACHABLE, of_cluster).all()
    going_on: dict[str, JobVerdict] = {}
    for job in map(job_of, unreachable):
        if listed.get(job.id) == job.token:
            _resume(connection, job, session.id, lease_seconds, now)
            going_on[job.id] = JobVerdict(
                job_id=job.id, verdict=_VERDICTS[job.stop], acknowledged_seq=job.acknowledged_seq
            )
        else:
            _disown(connection, job, now)
    return tuple(
        going_on.get(job_id, JobVerdict(job_id=job_id, verdict="abandon", acknowledged_seq=0)) for job_id in listed
    )


_IS_JOB: Final = (jobs.c.id == bindparam("of_job"), jobs.c.token == bindparam("of_token"))


def _resumed(event: JobEvent) -> Transition:
    return Transition(
        event,
        *_IS_JOB,
        holder=bindparam("new_session"),
        lease_expires_at=bindparam("new_expiry"),
        # An agent that lost its connection before its accept was sent has the job all the same.
        started_at=func.coalesce(jobs.c.started_at, NOW),
        leased_at=None,
        reason="",
    )


_RESUME: Final = _resumed(JobEvent.REPORT)
_RESUME_STOPPING: Final = _resumed(JobEvent.REPORT_CANCELLING)


def _resume(connection: Connection, job: Job, session_id: str, lease_seconds: float, now: float) -> None:
    resume = _RESUME if job.stop is None else _RESUME_STOPPING
    expiry = now + lease_seconds
    resume.apply(connection, now, of_job=job.id, of_token=job.token, new_session=session_id, new_expiry=expiry)


def _disowned(event: JobEvent, outcome: Outcome) -> Transition:
    return Transition(
        event,
        *_IS_JOB,
        outcome=str(outcome),
        code=str(ErrorCode.CANCELLED),
        cause="asked to stop while its agent was away, which came back without it",
    )


_DISOWN: Final[Mapping[str | None, Transition]] = {
    None: Transition(
        JobEvent.DISOWN,
        *_IS_JOB,
        # An offer that was lost on its way began nothing.
        attempt=case((jobs.c.leased_at.is_not(None), jobs.c.attempt), else_=jobs.c.attempt + 1),
        reason="its agent came back without it",
    ),
    "cancel": _disowned(JobEvent.DISOWN_CANCELLED, Outcome.CANCELLED),
    "supersede": _disowned(JobEvent.DISOWN_SUPERSEDED, Outcome.SUPERSEDED),
}


def _disown(connection: Connection, job: Job, now: float) -> None:
    _DISOWN[job.stop].apply(connection, now, of_job=job.id, of_token=job.token)


_RENEW: Final = (
    update(jobs)
    .where(
        jobs.c.holder == bindparam("of_session"),
        is_one_of(jobs.c.state, *HELD_STATES),
        tuple_(jobs.c.id, jobs.c.token).in_(bindparam("of_claims", expanding=True)),
    )
    .values(lease_expires_at=bindparam("new_expiry"))
    .returning(jobs.c.id)
)


def renew_leases(
    connection: Connection, session_id: str, claims: Sequence[tuple[str, int]], lease_seconds: float, now: float
) -> list[str]:
    """
    Renew the leases of a session.

    Args:
        connection: In a write.
        session_id: The connection that sent the heartbeat.
        claims: (job id, fencing token).
        lease_seconds: From now.
        now: Seconds since the epoch.
    Returns: Ids of the jobs that are the session's; the others are no longer its agent's.
    """
    if not claims:
        return []
    renewed = connection.scalars(
        _RENEW, {"of_session": session_id, "of_claims": list(claims), "new_expiry": now + lease_seconds}
    )
    return sorted(renewed)


_SEEN: Final = (
    update(agents).where(agents.c.session_id == bindparam("of_session")).values(last_seen_at=bindparam("seen_at"))
)


def note_seen(connection: Connection, seen: Mapping[str, float]) -> None:
    """Note when sessions were last heard of; those that are no longer an agent's are left out."""
    if seen:
        connection.execute(_SEEN, [{"of_session": session, "seen_at": at} for session, at in seen.items()])


_OF_RELAY: Final = select(agents.c.session_id).where(
    agents.c.relay_id == bindparam("relay_id"), agents.c.session_id.is_not(None)
)


def sessions_of_relay(connection: Connection, relay_id: str) -> set[str]:
    """Return the sessions with which a relay speaks for agents; others that it still has open were replaced."""
    return {session for session in connection.scalars(_OF_RELAY, {"relay_id": relay_id}) if session is not None}


_CLOSE: Final = (
    update(agents)
    .where(agents.c.session_id == bindparam("of_session"))
    .values(session_id=None, relay_id=None, last_seen_at=NOW)
)
_LOSE_WITH_CONNECTION: Final = Transition(
    JobEvent.LOSE, jobs.c.holder == bindparam("of_session"), reason="its agent's connection was lost"
)


def close_session(connection: Connection, session_id: str, now: float) -> list[Job]:
    """
    Note that a connection is gone: its jobs become unreachable until their agent is back. Twice is once.

    Returns: The jobs it held.
    """
    connection.execute(_CLOSE, {"of_session": session_id, "now": now})
    return _LOSE_WITH_CONNECTION.apply(connection, now, of_session=session_id)


_CLOSE_ALL: Final = (
    update(agents).where(agents.c.relay_id == bindparam("of_relay")).values(session_id=None, relay_id=None)
)
_LOSE_TO_RESTART: Final = Transition(
    JobEvent.LOSE,
    jobs.c.holder.is_not(None),
    jobs.c.holder.not_in(select(agents.c.session_id).where(agents.c.session_id.is_not(None))),
    reason="the relay was restarted",
)


def close_sessions_of_relay(connection: Connection, relay_id: str, now: float) -> list[Job]:
    """
    Note, when a relay starts, that no connection of its former life is left.

    Returns: The jobs that nobody holds any more, now unreachable.
    """
    connection.execute(_CLOSE_ALL, {"of_relay": relay_id})
    return _LOSE_TO_RESTART.apply(connection, now)
