"""Real relays for integration tests: one shared by the whole run, and one of its own for a test that kills it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.integration.relay_process import Api, RelayProcess
from tests.integration.scripted_agent import ScriptedAgent

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Tenant:
    """An organization with a cluster, an application and an environment, and clients with each role."""

    relay: RelayProcess
    organization: str
    enrolment_token: str
    admin: Api
    deployer: Api
    viewer: Api

    @property
    def path(self) -> str:
        """Path of the organization in the API."""
        return f"/v1/organizations/{self.organization}"

    @property
    def environment(self) -> str:
        """Path of the environment in the API."""
        return f"{self.path}/applications/shop/environments/staging"

    async def enrol(self) -> ScriptedAgent:
        """Enrol the cluster's agent."""
        return await ScriptedAgent.enrol(self.relay.agent_url, self.enrolment_token)

    async def ask(self, method: str, path: str, body: object = None, expect: int = 200) -> object:
        """Call the API as the deployer, from a running event loop."""
        return await asyncio.to_thread(self.deployer.ask, method, path, body, expect)


def make_tenant(relay: RelayProcess, organization: str = "") -> Tenant:
    """Create a tenant, by default one that no other test uses."""
    organization = organization or f"tenant-{next(_numbers)}"
    admin, deployer, viewer = (
        relay.client(relay.token(role, organization)) for role in ("admin", "deployer", "viewer")
    )
    path = f"/v1/organizations/{organization}"
    made = admin.ask("POST", f"{path}/clusters", {"name": "harbour"}, 201)
    admin.ask("POST", f"{path}/applications", {"name": "shop"}, 201)
    environment = {"name": "staging", "type": "staging", "cluster": "harbour", "namespace": "shop"}
    admin.ask("POST", f"{path}/applications/shop/environments", environment, 201)
    return Tenant(relay, organization, made["enrolment"]["token"], admin, deployer, viewer)


@pytest.fixture(scope="session")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """Run one relay for all tests that leave it alive."""
    running = RelayProcess(tmp_path_factory.mktemp("relay") / "data").start()
    yield running
    running.close()


@pytest.fixture
def tenant(relay: RelayProcess) -> Tenant:
    """Make a tenant of the shared relay."""
    return make_tenant(relay)


@pytest.fixture
def own_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """Run a relay that the test may kill."""
    running = RelayProcess(tmp_path_factory.mktemp("own-relay") / "data").start()
    yield running
    running.close()
