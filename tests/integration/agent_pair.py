"""A tenant of a real relay together with its agent, for tests that look at both ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

from tests.integration.agent_under_test import POLICY, AgentUnderTest
from tests.integration.conftest import Tenant
from tests.integration.relay_address import RelayAddress
from tests.polling import eventually


class Pair:
    """A tenant of a real relay and its agent."""

    def __init__(self, tenant: Tenant, folder: Path, cluster: str = "harbour", token: str = "", url: str = "") -> None:
        """Prepare the agent, not started; `url` is what it dials if that is not the relay itself."""
        self.tenant = tenant
        self.cluster = cluster
        address = RelayAddress(url or tenant.relay.agent_url, token or tenant.enrolment_token)
        self.agent = AgentUnderTest(address, folder)
        self.agent.policy_file.write_text(POLICY.replace("acme", tenant.organization))

    async def ask(self, path: str, body: object = None) -> dict[str, Any]:
        """Call the API as the admin."""
        method = "GET" if body is None else "POST"
        path = f"{self.tenant.path}/{path}"
        return cast("dict[str, Any]", await asyncio.to_thread(self.tenant.admin.ask, method, path, body))

    async def until(self, state: str) -> dict[str, Any]:
        """Wait until the cluster is shown in a state."""

        async def look() -> dict[str, Any] | None:
            shown = await self.ask(f"clusters/{self.cluster}")
            return shown if shown["state"] == state else None

        found = await eventually(look, f"the cluster to be {state}")
        assert found is not None
        return found

    async def until_agent_says(self, words: str) -> str:
        """Wait until the agent's state, as its readiness probe has it, contains some words."""

        async def look() -> bool:
            return self.agent.link is not None and words in self.agent.link.state

        await eventually(look, f"the agent to say {words!r}")
        assert self.agent.link is not None
        return self.agent.link.state
