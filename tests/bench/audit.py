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
    namespaces: frozenset[str]
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


def count_requests(cluster: Cluster, window: Window) -> Requests:
    """Count what was asked in a window that is over, and not long ago: the log is rotated."""
    _flush(cluster)
    asked, wrote = set(), set()
    for event in _events(cluster, window.user):
        if event["user"]["username"] != window.user or not window.began <= _received_at(event) <= window.ended:
            continue
        asked.add(event["auditID"])
        is_write = event["verb"] in _WRITES and "dryRun" not in event["requestURI"]
        if is_write and (event.get("objectRef") or {}).get("namespace") in window.namespaces:
            wrote.add(event["auditID"])
    return Requests(len(asked), len(wrote))


def _received_at(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["requestReceivedTimestamp"]).astimezone(UTC).timestamp()


def _flush(cluster: Cluster) -> None:
    """Wait until the log holds all that was asked so far: it may come a moment after the answer."""
    mark = f"bench-{secrets.token_hex(8)}"
    cluster.kubectl("get", "configmap", mark, "--ignore-not-found")

    def written() -> bool:
        with cluster.audit_log.open() as log:
            return any(mark in line for line in log)

    wait_until(written, "the audit log to hold the last request", 60)


def _events(cluster: Cluster, user: str) -> Iterator[dict[str, Any]]:
    mark = json.dumps(user)
    with cluster.audit_log.open() as log:
        for line in log:
            if mark in line:
                yield json.loads(line)
