"""The dispatcher's view of an agent's connection: what it calls, and what it gives back when one opens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from fairlead_relay.store.progress import OnFailed
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import JobCancel, JobOffer, JobVerdict


class AgentLink(Protocol):
    """
    An agent's connection as the gateway offers it. Each call queues and returns at once.

    Raises: QueueFull, from `offer` and `cancel`: too much waits to be written; the dispatcher tries again later.
    """

    def offer(self, message: JobOffer) -> None:
        """Queue an offer for the agent."""

    def cancel(self, message: JobCancel) -> None:
        """Queue a cancel for the agent; sent again after a while if the job has not ended."""

    def close(self, reason: str, code: ErrorCode = ErrorCode.OVERLOADED) -> None:
        """
        End the connection: another took over, its leases ran out, or the agent was cut off.

        The gateway then calls `disconnect`.
        """


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection that now speaks for its agent."""

    session_id: str
    verdicts: tuple[JobVerdict, ...]
    """One for each job in the hello, for the welcome."""


@dataclass(frozen=True, slots=True)
class DispatchHooks:
    """What is called when something happens to a job."""

    leased: Callable[[float], None] = lambda _: None
    """It was leased; gets the seconds since its agent was woken."""
    failed: OnFailed = lambda _connection, _job: None
    """It failed; called in the transaction in which that is stored."""


NO_HOOKS: Final = DispatchHooks()


@dataclass(frozen=True, slots=True)
class DispatchLimits:
    """Numbers of the dispatcher. Times are in seconds."""

    lease_seconds: float = 60.0
    """Six heartbeats. Silence of 25 s ends a dead connection before; the lease is for the death of its relay."""
    answer_seconds: float = 30.0
    """How long an agent may take to answer an offer: it writes one object into its cluster first."""
    busy_seconds: float = 5.0
    """When to offer a job again that the agent refused for now."""
    overdue_seconds: float = 60.0
    """How long after its deadline a running job may report its end; the agent ends it at the deadline by itself."""
    jobs_per_agent: int = 10
    """Jobs that one agent holds at the same time: enough to hide waiting for pods, few enough for its memory."""
    sweep_seconds: float = 1.0
    """How often leases and deadlines are looked at; also how long a lost notice can delay a job."""
    silent_seconds: float = 20.0
    """After so much silence of another relay its agents are offline: twenty sweeps, and sooner than its leases end."""
    jump_seconds: float = 30.0
    """A clock that parts by so much from one that cannot be set, within one sweep, was set, or the machine slept."""
    settle_seconds: float = 300.0
    """How long after that nothing ends by time: agents are back within a minute or two, and clocks set right."""
    agents_per_commit: int = 64
    """Agents served in one transaction, so that one with a long queue does not delay the others."""
    leases_per_commit: int = 64
    """Jobs leased in one transaction: at 0.5 ms each, an agent that wakes waits 30 ms at most for those before it."""
