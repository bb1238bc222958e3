"""
Sessions: which connection speaks for an agent, and how both sides agree on its jobs after any absence.

The newest connection wins. What older ones held becomes `unreachable` and is settled at once by the list of jobs in the
new one's hello: a job that the agent lists under its current token goes on, any other runs again as a new attempt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Connection, bindparam, func, select, tuple_, update

from fairlead_relay.store.access import Presented, check_agent, note_presented
from fairlead_relay.store.jobs import JOB_COLUMNS, Job, job_of, transition
from fairlead_relay.store.leases import HELD
from fairlead_relay.store.schema import agents, jobs
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import Hello, JobVerdict
from fairlead_shared.identity import AgentIdentity
from fairlead_shared.jobs import JobEvent, JobState
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
    Raises: NotFound: no such agent, e.g. it was removed after its certificate was issued. AgentRefused: it may not
        connect.
    """
    identity, presented = session.identity, session.certificate
    check_agent(connection, identity, None if presented is None else presented.made_at)
    if presented is not None:
        note_presented(connection, identity, presented)
    connection.execute(
        update(agents)
        .where(
            agents.c.organization == identity.organization,
            agents.c.cluster == identity.cluster,
            agents.c.name == identity.agent,
        )
        .values(
            session_id=session.id,
            relay_id=session.relay_id,
            version=hello.agent_version,
            kubernetes_version=hello.kubernetes_version,
            replica=hello.replica,
            sealing_key=hello.sealing_key,
            connected_at=now,
            last_seen_at=now,
        )
    )
    of_cluster = (jobs.c.organization == identity.organization, jobs.c.cluster == identity.cluster)
    transition(
        connection,
        JobEvent.LOSE,
        now,
        *of_cluster,
        jobs.c.finished_at.is_(None),
        jobs.c.holder != session.id,
        reason="a newer connection of its agent took over",
    )
    listed = {job.job_id: job.token for job in hello.jobs}
    unreachable = connection.execute(
        select(*JOB_COLUMNS)
        .where(*of_cluster, jobs.c.finished_at.is_(None), jobs.c.state == str(JobState.UNREACHABLE))
        .order_by(jobs.c.sequence)
    ).all()
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


def _resume(connection: Connection, job: Job, session_id: str, lease_seconds: float, now: float) -> None:
    transition(
        connection,
        JobEvent.REPORT if job.stop is None else JobEvent.REPORT_CANCELLING,
        now,
        jobs.c.id == job.id,
        jobs.c.token == job.token,
        holder=session_id,
        lease_expires_at=now + lease_seconds,
        # An agent that lost its connection between the checkpoint and the accept has the job all the same.
        started_at=func.coalesce(jobs.c.started_at, now),
        reason="",
    )


def _disown(connection: Connection, job: Job, now: float) -> None:
    guard = (jobs.c.id == job.id, jobs.c.token == job.token)
    if job.stop is None:
        reason = "its agent came back without it"
        transition(connection, JobEvent.DISOWN, now, *guard, attempt=jobs.c.attempt + 1, reason=reason)
    else:
        superseded = job.stop == "supersede"
        transition(
            connection,
            JobEvent.DISOWN_SUPERSEDED if superseded else JobEvent.DISOWN_CANCELLED,
            now,
            *guard,
            outcome=str(Outcome.SUPERSEDED if superseded else Outcome.CANCELLED),
            code=str(ErrorCode.CANCELLED),
            cause="asked to stop while its agent was away, which came back without it",
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
        update(jobs)
        .where(jobs.c.holder == session_id, jobs.c.state.in_(HELD), tuple_(jobs.c.id, jobs.c.token).in_(claims))
        .values(lease_expires_at=now + lease_seconds)
        .returning(jobs.c.id)
    )
    return sorted(renewed)


_SEEN: Final = (
    update(agents).where(agents.c.session_id == bindparam("of_session")).values(last_seen_at=bindparam("seen_at"))
)


def note_seen(connection: Connection, seen: Mapping[str, float]) -> None:
    """Note when sessions were last heard of; those that are no longer an agent's are left out."""
    if seen:
        connection.execute(_SEEN, [{"of_session": session, "seen_at": at} for session, at in seen.items()])


def sessions_of_relay(connection: Connection, relay_id: str) -> set[str]:
    """Return the sessions with which a relay speaks for agents; others that it still has open were replaced."""
    held = select(agents.c.session_id).where(agents.c.relay_id == relay_id, agents.c.session_id.is_not(None))
    return {session for session in connection.scalars(held) if session is not None}


def close_session(connection: Connection, session_id: str, now: float) -> list[Job]:
    """
    Note that a connection is gone: its jobs become unreachable until their agent is back. Twice is once.

    Returns: The jobs it held.
    """
    connection.execute(
        update(agents).where(agents.c.session_id == session_id).values(session_id=None, relay_id=None, last_seen_at=now)
    )
    reason = "its agent's connection was lost"
    return transition(connection, JobEvent.LOSE, now, jobs.c.holder == session_id, reason=reason)


def close_sessions_of_relay(connection: Connection, relay_id: str, now: float) -> list[Job]:
    """
    Note, when a relay starts, that no connection of its former life is left.

    Returns: The jobs that nobody holds any more, now unreachable.
    """
    connection.execute(update(agents).where(agents.c.relay_id == relay_id).values(session_id=None, relay_id=None))
    held = select(agents.c.session_id).where(agents.c.session_id.is_not(None))
    reason = "the relay was restarted"
    return transition(
        connection, JobEvent.LOSE, now, jobs.c.holder.is_not(None), jobs.c.holder.not_in(held), reason=reason
    )
