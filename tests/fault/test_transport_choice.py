"""A network that cuts every connection young: the agent finds the transport that bears it, and goes back later."""

import asyncio
import itertools
from typing import Any, cast

import pytest

from fairlead_agent import transport_choice
from fairlead_agent.link import Link
from fairlead_shared.frames import Welcome
from tests.fault.conftest import Line
from tests.fault.faulty_proxy import Break, Fault
from tests.integration.bundles import config_maps, deploy, upload
from tests.polling import eventually


async def test_polls_where_every_connection_is_cut_young_and_returns_to_a_websocket(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unconfigured: cut websockets lead to polls, whose session outlives its connections, and in time back."""
    monkeypatch.setattr(transport_choice, "POLL_SECONDS", 12.0)
    transports: list[str] = []
    opened = Link.opened

    def noted(self: Link, welcome: Welcome) -> None:
        assert self._connection is not None
        transports.append(self._connection.transport)
        opened(self, welcome)

    monkeypatch.setattr(Link, "opened", noted)
    line.proxy.follow(itertools.repeat(Fault(Break.RESET, after_seconds=0.8)))
    await line.agent.start()

    async def polls() -> bool:
        return "long-poll" in transports

    await eventually(polls, "the agent to poll")
    broken = line.proxy.broken
    bundle = config_maps(20)
    await asyncio.to_thread(upload, line.tenant.deployer, line.tenant.organization, bundle)
    made = await asyncio.to_thread(deploy, line.tenant.deployer, line.tenant.environment, bundle)

    async def succeeded() -> bool:
        path = f"{line.tenant.path}/deployments/{made['id']}"
        return bool(cast("dict[str, Any]", await line.tenant.ask("GET", path))["outcome"] == "succeeded")

    async def many_more() -> bool:
        return line.proxy.broken >= broken + 6

    await eventually(succeeded, "the deployment through polls")
    await eventually(many_more, "further connections to be cut")
    # One session bore them all.
    assert transports.count("long-poll") == 1
    assert transports[-1] == "long-poll"
    line.proxy.follow(())

    async def websocket_again() -> bool:
        return transports[-1] == "websocket"

    await eventually(websocket_again, "a websocket to be tried again")
