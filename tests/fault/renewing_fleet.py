"""
Real agents on a real relay whose certificates live for seconds, busy all the time: for tests of renewal.

Counts what could go wrong: deployments that did not succeed at the first attempt, and connections beyond the first.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, cast

from fairlead_agent.identity_store import SECRET_NAME
from fairlead_agent.ports import StateKind
from tests.integration.agent_under_test import POLICY, AgentUnderTest
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_address import RelayAddress
from tests.integration.relay_process import RelayProcess
from tests.polling import eventually

CHANGE_SECONDS = 60.0
"""For one command of a change of the CA, with all agents moving meanwhile."""


class RenewingFleet:
    """
    Some agents, each with a tenant of its own.

    Args:
        relay: Whose certificates live for seconds.
        folder: For the agents' files.
        agents: How many.
    """

    def __init__(self, relay: RelayProcess, folder: Path, agents: int) -> None:
        self.relay = relay
        self.deployments: list[dict[str, Any]] = []
        self._folder = folder
        self._count = agents
        self._tenants: list[Tenant] = []
        self._agents: list[AgentUnderTest] = []
        self._seen: list[set[str]] = []
        self._work: list[asyncio.Task[None]] = []

    @property
    def renewals(self) -> int:
        """How many certificates were stored beyond each agent's first."""
        return sum(len(seen) - 1 for seen in self._seen)

    async def start(self) -> None:
        """Enrol and connect the agents, and begin to work."""
        for number in range(self._count):
            # Before any agent runs here: what agents log would end up in what the command that makes a token prints.
            self._tenants.append(await asyncio.to_thread(make_tenant, self.relay, f"fleet-{number}"))
        for tenant in self._tenants:
            folder = self._folder / tenant.organization
            folder.mkdir()
            agent = AgentUnderTest(RelayAddress(self.relay.agent_url, tenant.enrolment_token), folder)
            agent.policy_file.write_text(POLICY.replace("acme", tenant.organization))
            await agent.start()
            self._agents.append(agent)
            self._seen.append(set())
        self._work = [asyncio.create_task(self._deploy(tenant)) for tenant in self._tenants]

    async def work_until(self, renewals: int, seconds: float = 300) -> None:
        """Work until so many certificates were renewed."""

        async def done() -> bool:
            for agent, seen in zip(self._agents, self._seen, strict=True):
                data = agent.state.objects[StateKind.SECRET, SECRET_NAME]["data"]
                if "tls.crt" in data:
                    seen.add(data["tls.crt"])
            for task in self._work:
                if task.done():
                    task.result()
            return self.renewals >= renewals

        await eventually(done, f"{renewals} renewals", seconds)

    async def change_authority(self) -> None:
        """Change the CA by its commands, from the first to the last step."""
        for command in ("rotate", "status", "finish"):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "fairlead_relay", "ca", command, "--data-dir", str(self.relay.data_dir)),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            async with asyncio.timeout(CHANGE_SECONDS):
                output = (await process.communicate())[0].decode()
            assert process.returncode == 0, output
            if command == "rotate":
                assert f"{self._count} of {self._count} agents moved" in output, output

    async def stop(self) -> None:
        """End the work and the agents."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        for agent in self._agents:
            await agent.stop()

    def assert_nothing_was_lost(self) -> None:
        """Check every deployment, and that no connection was lost or replaced."""
        failed = [one for one in self.deployments if (one["state"], one["job"]["attempt"]) != ("succeeded", 1)]
        assert not failed, failed
        assert len(self.deployments) > self._count
        log = self.relay.log.read_text()
        assert log.count("agent connected") == self._count, "a connection was replaced"
        assert log.count("agent disconnected") == 0
        assert log.count("agent rejoined") == 0

    async def _deploy(self, tenant: Tenant) -> None:
        """Deploy one bundle after the other and keep how each ended."""
        number = 0
        while True:
            number += 1
            bundle = config_maps(1 + number % 3)
            await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
            made = await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle)
            path = f"{tenant.path}/deployments/{made['id']}"

            async def ended(path: str = path) -> dict[str, Any] | None:
                shown = cast("dict[str, Any]", await tenant.ask("GET", path))
                return shown if shown["finished_at"] else None

            found = await eventually(ended, f"{path} to end")
            assert found is not None
            self.deployments.append(found)
