"""
What the agent counts of itself, in Prometheus' form.

Why here: names, units and labels are a contract with dashboards and alarms, so that they are all in one place. Labels
have few values, fixed by this code: never an object's, namespace's or application's name, which are the operator's own
business. Parts of the agent get a method of this as a callback and know nothing of Prometheus.

Source: https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

import platform
from collections.abc import Callable
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

from fairlead_agent import __version__
from fairlead_shared.progress import Outcome

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_REQUEST_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds: milliseconds when all is well, up to the API server's own limit of 34 s for slow webhooks."""


class Metrics:
    """
    All counts of one agent process.

    Args:
        connected: Says whether the relay said welcome on the present connection.
        leading: Says whether this replica leads.
        jobs: Says how many jobs this replica holds.
        certificate_ends: Says when the agent's certificate ends, seconds since the epoch; 0 while there is none.
        kube_watches: Says how many watches of the API server are open.
        drift_watches: Says how many watches are open for drift.
        drifted: Says how many objects differ from what was deployed, or did until they were put right.
    """

    def __init__(
        self,
        connected: Callable[[], bool] = bool,
        leading: Callable[[], bool] = bool,
        jobs: Callable[[], int] = int,
        certificate_ends: Callable[[], float] = float,
        kube_watches: Callable[[], int] = int,
        drift_watches: Callable[[], int] = int,
        drifted: Callable[[], int] = int,
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped there; else each has a second series
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("fairlead_agent_build", "Version of this agent.", registry=registry).info(
            {"version": __version__, "python": platform.python_version()}
        )
        asked: tuple[tuple[str, str, Callable[[], float]], ...] = (
            ("fairlead_agent_connected", "Whether the relay said welcome on the present connection.", connected),
            ("fairlead_agent_leading", "Whether this replica leads; the others stand by.", leading),
            ("fairlead_agent_jobs", "Jobs that this replica holds.", jobs),
            (
                "fairlead_agent_certificate_expiry_timestamp_seconds",
                "When the agent's certificate ends, by Unix time; 0 while there is none.",
                certificate_ends,
            ),
            ("fairlead_agent_kube_watches", "Watches of the API server that are open: connections.", kube_watches),
            ("fairlead_agent_drift_watches", "Watches that are open for drift, of all environments.", drift_watches),
            (
                "fairlead_agent_drifted_objects",
                "Objects that differ from what was deployed, or did until they were put right.",
                drifted,
            ),
        )
        for name, text, ask in asked:
            Gauge(name, text, registry=registry).set_function(ask)
        self._connections = Counter(
            "fairlead_agent_connections", "Connections on which the relay said welcome.", registry=registry
        )
        self._ended = Counter(
            "fairlead_agent_jobs_ended",
            "Jobs that this replica carried to their end, by kind and outcome.",
            ["kind", "outcome"],
            registry=registry,
        )
        self._refused = Counter(
            "fairlead_agent_offers_refused",
            "Offers of the relay that were refused, by code.",
            ["code"],
            registry=registry,
        )
        self._requests = Histogram(
            "fairlead_agent_kube_request_seconds",
            "Requests to the API server, from the wait for a slot to the whole answer; status 0 is no answer.",
            ["method", "status"],
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )

        self._drift_looks = Counter(
            "fairlead_agent_drift_looks",
            "Looks at a single object whose watch showed a change: at most a read and a dry-run each.",
            registry=registry,
        )
        self._corrections = Counter(
            "fairlead_agent_drift_corrections",
            "Objects that were put right after others changed them.",
            registry=registry,
        )

    def drift_looked(self) -> None:
        """Count a look at one object."""
        self._drift_looks.inc()

    def drift_corrected(self) -> None:
        """Count an object that was put right."""
        self._corrections.inc()

    def connection_opened(self) -> None:
        """Count a welcome."""
        self._connections.inc()

    def job_ended(self, kind: str, outcome: Outcome) -> None:
        """Count a job that has its result; its kind is one that this agent knows."""
        self._ended.labels(kind, outcome).inc()

    def offer_refused(self, code: str) -> None:
        """Count an offer that was refused, with a code of this agent's."""
        self._refused.labels(code).inc()

    def kube_answered(self, method: str, status: int, seconds: float) -> None:
        """Count one try of a request to the API server; status 0: it did not answer."""
        self._requests.labels(method, status).observe(seconds)

    def render(self) -> bytes:
        """Return all counts as text."""
        return generate_latest(self._registry)
