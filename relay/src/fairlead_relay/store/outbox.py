"""
The outbox: what a write tells the rest of the relay once it is committed.

Why here: a state change and its notice must not come apart. Functions of the store put notices into the outbox of their
connection; the writer publishes them after the commit, in commit order, and forgets those of a write that was rolled
back. A lost notice costs latency, never a job: the truth is in the tables.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

from sqlalchemy import Connection

_KEY: Final = "fairlead_outbox"


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One stored line of a job's story: a progress event of its agent, or a change of its state."""

    position: int
    """Increases over the whole store, in the order of commits; where a reader resumes."""
    organization: str
    deployment_id: str | None
    job_id: str
    attempt: int
    recorded_at: float
    """Seconds since the epoch, by the relay's clock."""
    event: str
    """JSON of a ProgressEvent, or of `{"type": "job", "state", "attempt", "reason", "at"}`."""
    final: bool
    """True for the record of a job's final state, the last of its story."""

    def to_json(self) -> str:
        """Return the record as API clients get it."""
        head = {
            "id": self.position,
            "deployment_id": self.deployment_id,
            "job_id": self.job_id,
            "attempt": self.attempt,
            "recorded_at": iso_time(self.recorded_at),
        }
        # The event is stored as JSON: parsing it only to print it again would cost more than all the rest.
        return f'{json.dumps(head)[:-1]}, "event": {self.event}}}'


@dataclass(frozen=True, slots=True)
class Work:
    """Something changed for the agent of a cluster: a job to offer, a place that became free, a cancel to send."""

    organization: str
    cluster: str


Notice = EventRecord | Work


def iso_time(at: float) -> str:
    """Return an epoch time as RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def outbox(connection: Connection) -> list[Notice]:
    """Return the outbox of a connection; the writer empties it."""
    return cast("list[Notice]", connection.info.setdefault(_KEY, []))
