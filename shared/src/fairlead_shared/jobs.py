"""
States of a job, and the one table that says how they change.

Everything that affects a job's transitions lives here. An unlisted (state, event) pair is an error. docs/jobs.md
draws the table; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from fairlead_shared.errors import TransitionInvalid


class JobKind(StrEnum):
    """What a job does. A peer that does not know a kind refuses the job with code `unsupported`."""

    DEPLOY = "deploy"
    DESTROY = "destroy"
    """Deletes all that an environment's inventory holds."""
    HEALTH = "health"
    PLAN = "plan"
    """Says what a deployment would do, by the API server's own dry-run, and changes nothing."""


class JobState(StrEnum):
    """Where a job stands, as the relay's store has it."""

    QUEUED = "queued"
    """Stored; waits for its agent, its turn or its time."""
    LEASED = "leased"
    """Offered to an agent that has not yet answered."""
    RUNNING = "running"
    """Accepted; the agent reports progress and renews its lease."""
    CANCELLING = "cancelling"
    """A cancel was sent; the agent winds down and says how it ended."""
    UNREACHABLE = "unreachable"
    """Its agent's connection was lost; settled by the job list in the agent's next hello."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    """The agent's own rules said no; nothing was changed."""
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    """Its deadline passed before an agent took it."""


class JobEvent(StrEnum):
    """What happens to a job."""

    LEASE = "lease"
    ACCEPT = "accept"
    REFUSE = "refuse"
    HAND_BACK = "hand_back"
    """An offer was not answered, or the relay drains: the job waits for the next lease."""
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    SUPERSEDE = "supersede"
    CONFIRM_CANCEL = "confirm_cancel"
    CONFIRM_SUPERSEDE = "confirm_supersede"
    LOSE = "lose"
    """The connection that carries the job was lost."""
    REPORT = "report"
    """The agent is back and still has the job."""
    REPORT_CANCELLING = "report_cancelling"
    """The agent is back and still has the job, and a cancel was asked meanwhile."""
    DISOWN = "disown"
    """The agent is back and does not know the job: it runs again, attempt + 1."""
    DISOWN_CANCELLED = "disown_cancelled"
    """The agent is back, does not know the job, and a cancel was asked meanwhile."""
    DISOWN_SUPERSEDED = "disown_superseded"
    """The same, and a newer deployment took its place meanwhile."""
    EXPIRE = "expire"
    """The job's deadline passed."""


_S, _E = JobState, JobEvent

TRANSITIONS: Mapping[tuple[JobState, JobEvent], JobState] = MappingProxyType(
    {
        (_S.QUEUED, _E.LEASE): _S.LEASED,
        (_S.QUEUED, _E.CANCEL): _S.CANCELLED,
        (_S.QUEUED, _E.SUPERSEDE): _S.SUPERSEDED,
        (_S.QUEUED, _E.EXPIRE): _S.EXPIRED,
        (_S.LEASED, _E.ACCEPT): _S.RUNNING,
        (_S.LEASED, _E.REFUSE): _S.REFUSED,
        (_S.LEASED, _E.CANCEL): _S.CANCELLING,
        (_S.LEASED, _E.SUPERSEDE): _S.CANCELLING,
        (_S.LEASED, _E.HAND_BACK): _S.QUEUED,
        (_S.LEASED, _E.LOSE): _S.UNREACHABLE,
        (_S.RUNNING, _E.SUCCEED): _S.SUCCEEDED,
        (_S.RUNNING, _E.FAIL): _S.FAILED,
        (_S.RUNNING, _E.CANCEL): _S.CANCELLING,
        (_S.RUNNING, _E.SUPERSEDE): _S.CANCELLING,
        (_S.RUNNING, _E.LOSE): _S.UNREACHABLE,
        (_S.CANCELLING, _E.CONFIRM_CANCEL): _S.CANCELLED,
        (_S.CANCELLING, _E.CONFIRM_SUPERSEDE): _S.SUPERSEDED,
        (_S.CANCELLING, _E.SUCCEED): _S.SUCCEEDED,
        (_S.CANCELLING, _E.FAIL): _S.FAILED,
        (_S.CANCELLING, _E.LOSE): _S.UNREACHABLE,
        (_S.UNREACHABLE, _E.REPORT): _S.RUNNING,
        (_S.UNREACHABLE, _E.REPORT_CANCELLING): _S.CANCELLING,
        (_S.UNREACHABLE, _E.DISOWN): _S.QUEUED,
        (_S.UNREACHABLE, _E.DISOWN_CANCELLED): _S.CANCELLED,
        (_S.UNREACHABLE, _E.DISOWN_SUPERSEDED): _S.SUPERSEDED,
        (_S.UNREACHABLE, _E.EXPIRE): _S.FAILED,
    }
)

FINAL_STATES = frozenset(
    {_S.SUCCEEDED, _S.FAILED, _S.REFUSED, _S.CANCELLED, _S.SUPERSEDED, _S.EXPIRED},
)
HELD_STATES = frozenset({_S.LEASED, _S.RUNNING, _S.CANCELLING})
"""States in which a connected agent holds, or was offered, the job."""


def next_state(state: JobState, event: JobEvent) -> JobState:
    """
    Return the state that follows.

    Raises: TransitionInvalid: the table does not list the pair.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise TransitionInvalid("job", state, event) from None


def sources(event: JobEvent) -> frozenset[JobState]:
    """Return the states in which `event` is allowed: the guard of a compare-and-set."""
    return frozenset(state for state, known in TRANSITIONS if known == event)
