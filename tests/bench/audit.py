"""
What a client asked of an API server, counted in its audit log.

The API server's metrics count everybody's requests together; the audit log names the user of each, so that controllers
and other clients do not show in a client's figure.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.polling import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.cluster import Cluster

_WRITES = frozenset({"create", "update", "patch", "delete"})


@dataclass(frozen=True, kw_only=True)
class Window:
    """When and where a client worked."""

    user: str
    """As the API server knows it."""
    namespace: str
    """Where the objects are that it worked on."""
    began: float
    """Seconds since the epoch."""
    ended: float


@dataclass(frozen=True)
class Requests:
    """How many there were in a window."""

    all: int
    writes: int
    """Those that may change the namespace's objects; dry-runs are none."""


def count_requests(cluster: Cluster, windows: list[Window]) -> list[Requests]:
    """
    Count what was asked in each of some windows, all of which are over.

    Returns: A count for each window, in order.
    """
    _flush(cluster)
    events = list(_events(cluster))
    return [_count(events, window) for window in windows]


def _count(events: list[dict[str, Any]], window: Window) -> Requests:
    asked, wrote = set(), set()
    for event in events:
        if event["user"]["username"] != window.user or not window.began <= _received_at(event) <= window.ended:
            continue
        asked.add(event["auditID"])
        is_write = event["verb"] in _WRITES and "dryRun" not in event["requestURI"]
        if is_write and (event.get("objectRef") or {}).get("namespace") == window.namespace:
            wrote.add(event["auditID"])
    return Requests(len(asked), len(wrote))


def _received_at(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["requestReceivedTimestamp"]).astimezone(UTC).timestamp()


def _flush(cluster: Cluster) -> None:
    """Wait until the log holds all that was asked so far: it may come a moment after the answer."""
    mark = f"bench-{secrets.token_hex(8)}"
    cluster.kubectl("get", "configmap", mark, "--ignore-not-found")
    wait_until(lambda: mark in cluster.audit_log.read_text(), "the audit log to hold the last request", 10)


def _events(cluster: Cluster) -> Iterator[dict[str, Any]]:
    for line in cluster.audit_log.read_text().splitlines():
        yield json.loads(line)
