"""
What the relay counts of itself, in Prometheus' form.

Why here: names, units and labels are a contract with dashboards and alarms, so that they are all in one place. Labels
have few values, fixed by this code: never a tenant's name, a path as it was asked for, or an address. Parts of the
relay get a method of this as a callback and know nothing of Prometheus.

Must not: ask the store for anything; what is to be asked is handed in when it is rendered.
Source: https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

import asyncio
import json
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest

from fairlead_relay import __version__
from fairlead_relay.store.outbox import EventRecord, Notice
from fairlead_shared.jobs import FINAL_STATES, JobState

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LAG_SECONDS: Final = 0.1
"""How often the loop is asked how late it is."""
_QUICK: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds, for what takes milliseconds when all is well."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})


class Metrics:
    """
    All counts of one relay.

    Args:
        agents: Says how many agents are connected.

    """

    def __init__(self, agents: Callable[[], int] = lambda: 0) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped there; else each has a second series
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("fairlead_relay_build", "Version of this relay.", registry=registry).info(
            {"version": __version__, "python": platform.python_version()}
        )
        self._agents = Gauge("fairlead_relay_agents_connected", "Agents connected to this relay.", registry=registry)
        self.count_agents(agents)
        self._jobs = Gauge(
            "fairlead_relay_jobs",
            "Jobs in the store that are not final, by state; the same from every relay that shares it.",
            ["state"],
            registry=registry,
        )
        self._drifted = Gauge(
            "fairlead_relay_environments_drifted",
            "Environments in which an object is not as the last deployment left it, by their agents' last word; "
            "the same from every relay that shares the store.",
            registry=registry,
        )
        self._ended = Counter(
            "fairlead_relay_jobs_ended",
            "Jobs whose end this relay stored, by final state.",
            ["state"],
            registry=registry,
        )
        self._dispatch = Histogram(
            "fairlead_relay_dispatch_seconds",
            "From hearing of work for a connected agent to the commit of its lease.",
            buckets=_QUICK,
            registry=registry,
        )
        self._commits = Histogram(
            "fairlead_relay_store_commit_seconds",
            "Transactions of the store's writer, to the acknowledged commit.",
            buckets=_QUICK,
            registry=registry,
        )
        self._batches = Histogram(
            "fairlead_relay_store_commit_writes",
            "Writes that one commit made durable.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=registry,
        )
        self._refused = Counter(
            "fairlead_relay_connections_refused",
            "Connections to the agent port that were not served, by reason.",
            ["reason"],
            registry=registry,
        )
        self._lag = Histogram(
            "fairlead_relay_loop_lag_seconds", "How late the event loop was.", buckets=_QUICK, registry=registry
        )
        self._requests = Counter(
            "fairlead_relay_api_requests",
            "Requests to the API that were answered, by route as in its document.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._latency = Histogram(
            "fairlead_relay_api_request_seconds",
            "From a request's head to the head of its answer; for streams, too.",
            ["method", "route"],
            buckets=_QUICK,
            registry=registry,
        )
        self._unaudited = Counter(
            "fairlead_relay_audit_skipped",
            "Attempts that came to nothing and have no record, as their token made too many within a minute.",
            registry=registry,
        )
        self._streams = Gauge("fairlead_relay_api_streams", "Live streams that clients follow.", registry=registry)
        for state in JobState:
            (self._ended if state in FINAL_STATES else self._jobs).labels(state)

    def count_agents(self, agents: Callable[[], int]) -> None:
        """Say who knows how many agents are connected."""
        self._agents.set_function(agents)

    def count_backups(self, newest: Callable[[], float], every_seconds: float) -> None:
        """
        Say who knows when this relay's newest backup was begun; a relay that writes none has no such metrics.

        Args:
            newest: Seconds since the epoch, 0 if there is none.
            every_seconds: How long after it the next one is due.
        """
        Gauge(
            "fairlead_relay_backup_newest_timestamp_seconds",
            "When the newest of this relay's own backups was begun, by Unix time; 0 if there is none.",
            registry=self._registry,
        ).set_function(newest)
        Gauge(
            "fairlead_relay_backup_interval_seconds",
            "How long after one of this relay's own backups the next is due.",
            registry=self._registry,
        ).set(every_seconds)

    def committed(self, writes: int, seconds: float) -> None:
        """Count a commit; called from the writer's thread."""
        self._commits.observe(seconds)
        self._batches.observe(writes)

    def dispatched(self, seconds: float) -> None:
        """Count a job that was leased so long after its agent was woken for it."""
        self._dispatch.observe(seconds)

    def noted(self, notices: Iterable[Notice]) -> None:
        """Count the ends of jobs among what this relay committed."""
        for notice in notices:
            if isinstance(notice, EventRecord) and notice.final:
                self._ended.labels(json.loads(notice.event)["state"]).inc()

    def refused(self, reason: str) -> None:
        """Count a connection that was not served, for one of a few reasons."""
        self._refused.labels(reason).inc()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; a method that no route knows is `other`."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, status).inc()
        self._latency.labels(method, route).observe(seconds)

    def audit_skipped(self) -> None:
        """Count an attempt that was not recorded."""
        self._unaudited.inc()

    def stream_begun(self) -> None:
        """Count a client that follows a stream."""
        self._streams.inc()

    def stream_ended(self) -> None:
        """Count it no more."""
        self._streams.dec()

    async def watch_loop(self) -> None:
        """Measure for ever how late the event loop wakes whoever sleeps."""
        while True:
            due = time.monotonic() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self._lag.observe(max(0.0, time.monotonic() - due))

    def render(self, jobs: Mapping[JobState, int] | None, drifted: int | None) -> bytes:
        """
        Return all counts as text.

        Args:
            jobs: How many jobs there are in each state that is not final; None if the store did not say, and then the
                text does not either.
            drifted: How many environments are drifted; None as above.

        """
        self._drifted.set(float("nan") if drifted is None else drifted)
        for state in JobState:
            if state not in FINAL_STATES:
                self._jobs.labels(state).set(float("nan") if jobs is None else jobs.get(state, 0))
        return generate_latest(self._registry)
