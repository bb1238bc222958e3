"""Relay and agent for fault tests: a real relay of one's own, and an agent that dials through a faulty proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fault.faulty_proxy import FaultyProxy, faulty_proxy
from tests.integration.agent_under_test import AgentUnderTest
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_address import RelayAddress
from tests.integration.relay_process import RelayProcess


@dataclass
class Line:
    """A tenant of a real relay, its agent, and the proxy between."""

    tenant: Tenant
    agent: AgentUnderTest
    proxy: FaultyProxy


@pytest.fixture
def own_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """Run a relay that the test may stop."""
    running = RelayProcess(tmp_path_factory.mktemp("relay") / "data")
    # Agents that say that their network inspects TLS are strangers to it, however often their connections break.
    running.environment = {
        "FAIRLEAD_RELAY_TLS_INSPECTION": "true",
        "FAIRLEAD_RELAY_UNIDENTIFIED_PER_MINUTE": "6000",
    }
    running.start()
    yield running
    running.close()


@pytest.fixture
async def line(own_relay: RelayProcess, tmp_path: Path) -> AsyncIterator[Line]:
    """Prepare an agent, not started, behind a proxy that is faithful until told otherwise."""
    tenant = await asyncio.to_thread(make_tenant, own_relay, "acme")
    async with faulty_proxy(own_relay.agent_port) as proxy:
        agent = AgentUnderTest(RelayAddress(proxy.url, tenant.enrolment_token), tmp_path)
        yield Line(tenant, agent, proxy)
        await agent.stop()
