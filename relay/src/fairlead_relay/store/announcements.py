"""
Announcements: what one relay's commit tells the other relays on the same PostgreSQL, in the commit's own transaction.

One NOTIFY per commit. It names the clusters with work and the position of the last event, never the events themselves:
whoever hears of a position reads the store. PostgreSQL refuses payloads of 8,000 bytes, so a commit that touched too
many clusters says "any" instead of naming them.

Must not hold anything that a reader could not do without: a lost announcement costs latency.
Source: https://www.postgresql.org/docs/current/sql-notify.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from sqlalchemy import Connection, text

from fairlead_relay.store.outbox import EventRecord, Notice, Work

CHANNEL: Final = "fairlead"
_PAYLOAD_BYTES: Final = 7_900
"""Below PostgreSQL's limit of 8,000."""
_ANNOUNCE: Final = text(
    "SELECT pg_notify(:channel, :payload), (SELECT max(position) FROM job_events WHERE position < :first)"
)


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a relay says of one of its commits."""

    sender: str
    """The store that committed: nobody needs to hear of its own."""
    position: int
    """Of the commit's last event; 0 without one."""
    clusters: tuple[tuple[str, str], ...] | None
    """(organization, cluster) of each agent with work; None: too many to name, look at all."""

    def to_payload(self) -> str:
        """Return what NOTIFY carries: ASCII, within PostgreSQL's limit."""
        payload = json.dumps([self.sender, self.position, self.clusters], separators=(",", ":"))
        if len(payload) <= _PAYLOAD_BYTES:
            return payload
        return json.dumps([self.sender, self.position, None], separators=(",", ":"))

    @classmethod
    def from_payload(cls, payload: str) -> Self:
        """
        Read what NOTIFY carried.

        Raises: ValueError: no relay of this version wrote it.
        """
        try:
            sender, position, clusters = json.loads(payload)
            named = None if clusters is None else tuple((str(of), str(name)) for of, name in clusters)
            return cls(str(sender), int(position), named)
        except (TypeError, ValueError) as error:
            raise ValueError(f"an announcement that cannot be read: {payload[:100]!r}") from error


def announce(connection: Connection, sender: str, notices: Sequence[Notice]) -> int:
    """
    Tell the other relays of a commit, once it is one.

    Args:
        connection: To PostgreSQL, in a write that has done everything else.
        sender: Names the store.
        notices: The commit's outbox, not empty.
    Returns: The last position that was stored before this commit's events; 0 for none, or if the commit has no events.
    """
    records = [notice.position for notice in notices if isinstance(notice, EventRecord)]
    clusters = dict.fromkeys((one.organization, one.cluster) for one in notices if isinstance(one, Work))
    said = Announcement(sender, records[-1] if records else 0, tuple(clusters))
    first = records[0] if records else 0
    row = connection.execute(_ANNOUNCE, {"channel": CHANNEL, "payload": said.to_payload(), "first": first}).one()
    before: int | None = row[1]
    return before or 0
