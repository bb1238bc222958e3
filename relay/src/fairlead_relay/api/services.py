"""What the routes work with: ports and settings, put together once in app.py and handed to every request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Connection

from fairlead_relay.api.rate_limits import RateLimits
from fairlead_relay.bus import LocalBus
from fairlead_relay.metrics import Metrics
from fairlead_relay.pki.authority import CertificateAuthority
from fairlead_relay.planning.bundle_library import BundleLibrary
from fairlead_relay.planning.deployments import Planner
from fairlead_relay.settings import Settings
from fairlead_relay.store import Store
from fairlead_relay.store.blobs import Blobs
from fairlead_relay.store.jobs import Job
from fairlead_relay.store.waiting import waiting_reason


@dataclass(frozen=True, slots=True)
class Services:
    """The relay's parts, as the API sees them."""

    store: Store
    blobs: Blobs
    bus: LocalBus
    authority: CertificateAuthority
    library: BundleLibrary
    planner: Planner
    settings: Settings
    """With both URLs filled in."""
    clock: Callable[[], float]
    """Seconds since the epoch."""
    monotonic: Callable[[], float]
    """Seconds that no clock change moves."""
    limits: RateLimits
    metrics: Metrics
    stopping: asyncio.Event
    """Set when the relay drains: streams end, their clients resume elsewhere."""

    def reason(self, connection: Connection, job: Job) -> str:
        """Say why a job does not go on; empty when it does, or has ended."""
        return waiting_reason(connection, job, self.settings.jobs_per_agent, self.clock())


def services_of(request: Request) -> Services:
    """Return the parts that serve a request."""
    services: Services = request.app.state.services
    return services


async def _services(request: Request) -> Services:
    # Async as every dependency here: the framework hands those that are not to a thread, and waits for it.
    return services_of(request)


ServicesOf = Annotated[Services, Depends(_services)]
"""The parts, as a route's parameter."""
