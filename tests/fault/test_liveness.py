"""Connections that are dead without saying so, relays that stand still or stay away, and connections that grow old."""

import asyncio
import itertools
import signal
from pathlib import Path
from typing import Any, cast

import pytest

from fairlead_agent.link import Link
from fairlead_agent.transport_choice import Transport
from tests.fault.conftest import Line
from tests.fault.faulty_proxy import Break, Fault, faulty_proxy
from tests.integration.agent_under_test import AgentUnderTest
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import make_tenant
from tests.integration.relay_address import RelayAddress
from tests.integration.relay_process import RelayProcess
from tests.polling import eventually


async def until_connected(agent: AgentUnderTest, connected: bool = True) -> None:  # noqa: FBT001, FBT002
    """Wait for the link to be up or down."""

    async def look() -> bool:
        return agent.link is not None and agent.link.is_connected is connected

    await eventually(look, f"the link to be {'up' if connected else 'down'}")


async def until_offline(line: Line) -> None:
    """Wait until the relay says that the agent is away."""

    async def look() -> bool:
        shown = cast("dict[str, Any]", await line.tenant.ask("GET", f"{line.tenant.path}/clusters/harbour"))
        return bool(shown["state"] == "offline")

    await eventually(look, "the cluster to be offline")


@pytest.mark.parametrize("transport", list(Transport))
async def test_a_connection_that_carries_nothing_is_found_by_both_sides(line: Line, transport: Transport) -> None:
    """Neither gets a FIN or RST; afterwards the agent is back by itself."""
    line.agent.only = transport
    line.proxy.follow(itertools.repeat(Fault(Break.BLACKHOLE)))
    await line.agent.start()
    await until_connected(line.agent)
    line.proxy.follow(itertools.repeat(Fault(Break.REFUSE)))
    line.proxy.break_now()
    await asyncio.gather(until_connected(line.agent, connected=False), until_offline(line))
    line.proxy.follow(())
    await until_connected(line.agent)


async def test_a_relay_that_stands_still_is_left_and_found_again(line: Line) -> None:
    """SIGSTOP: the kernel answers for it, the session does not."""
    await line.agent.start()
    await until_connected(line.agent)
    process = line.tenant.relay.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        await until_connected(line.agent, connected=False)
    finally:
        process.send_signal(signal.SIGCONT)
    await until_connected(line.agent)


async def test_a_relay_that_is_away_for_an_hour_ends_nothing(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many failed tries as an hour has, in short: the agent runs on, and is back once the relay is."""
    waited = 0.0
    wait = Link._wait_seconds

    def short(self: Link, failures: int) -> float:
        nonlocal waited
        waited += wait(self, failures)
        return 0.001

    await line.agent.start()
    await until_connected(line.agent)
    monkeypatch.setattr(Link, "_wait_seconds", short)
    await asyncio.to_thread(line.tenant.relay.kill)

    async def an_hour() -> bool:
        return waited > 3600

    await eventually(an_hour, "an hour of waits")
    assert line.agent.task is not None
    assert not line.agent.task.done()
    monkeypatch.undo()
    await asyncio.to_thread(line.tenant.relay.start)
    await until_connected(line.agent)


@pytest.mark.parametrize("transport", list(Transport))
async def test_connections_that_reach_their_age_move_without_dropping_a_job(
    tmp_path: Path, transport: Transport
) -> None:
    """One job after the other while each connection lives a second at most: every one is done at its first attempt."""
    relay = RelayProcess(tmp_path / "data", environment={"FAIRLEAD_RELAY_CONNECTION_MAX_AGE_SECONDS": "1.2"})
    await asyncio.to_thread(relay.start)
    try:
        tenant = await asyncio.to_thread(make_tenant, relay, "acme")
        async with faulty_proxy(relay.agent_port) as proxy:
            agent = AgentUnderTest(RelayAddress(proxy.url, tenant.enrolment_token), tmp_path)
            agent.only = transport
            await agent.start()
            for _ in range(6):
                bundle = config_maps(40)
                await asyncio.to_thread(upload, tenant.deployer, "acme", bundle)
                made = await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle)
                path = f"{tenant.path}/deployments/{made['id']}"

                async def ended(path: str = path) -> dict[str, Any] | None:
                    shown = cast("dict[str, Any]", await tenant.ask("GET", path))
                    return shown if shown["finished_at"] else None

                shown = await eventually(ended, "the deployment to end")
                assert shown is not None
                assert (shown["state"], shown["job"]["attempt"]) == ("succeeded", 1), shown
            moved = proxy.accepted

            async def more() -> bool:
                return proxy.accepted >= max(moved, 6)

            await eventually(more, "connections to be moved")
            assert proxy.broken == 0
            await agent.stop()
    finally:
        relay.close()
