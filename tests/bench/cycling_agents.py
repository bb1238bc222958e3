"""
Agents whose connections are dropped as soon as the relay says welcome: link, runner, session and TLS are the product's.

`python -m tests.bench.cycling_agents URL DIRECTORY`, with one enrolment token a line on standard input, then an empty
line; it answers once all are connected. Then one command a line, one JSON answer each:

    cycle COUNT   → {}; each agent's connection is dropped so often, by turns in due form and by a reset
    count         → {"tasks", "descriptors"}

Waits between two connections are left out: they are tested elsewhere. Must not: be taken for an agent's speed.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast
from unittest.mock import patch

import structlog
import uvloop

from fairlead_agent.channel import WebsocketChannel
from fairlead_agent.link import Link
from fairlead_agent.transport_choice import Transport
from tests.bench.agent_without_cluster import Address
from tests.integration import agent_under_test

if TYPE_CHECKING:
    from fairlead_shared.frames import Welcome
    from tests.integration.scripted_relay import ScriptedRelay


class CyclingLink(Link):
    """Drops its connections."""

    _left = 0
    _idle: asyncio.Event | None = None

    async def cycle(self, count: int) -> None:
        """Drop the connection so often; returns when the last one is open."""
        self._left, self._idle = count, asyncio.Event()
        self._drop()
        await self._idle.wait()

    def opened(self, welcome: Welcome) -> None:
        """Take the relay's welcome, and drop the connection."""
        super().opened(welcome)
        if self._left > 0:
            asyncio.get_running_loop().call_soon(self._drop)
        elif self._idle is not None:
            self._idle.set()

    def _drop(self) -> None:
        connection = self._connection
        if connection is None:
            return  # it ended by itself; the next one's turn comes with its welcome
        self._left -= 1
        channel = connection._channel
        if self._left % 2 and isinstance(channel, WebsocketChannel):
            channel._websocket.transport.abort()
        else:
            connection.leave("dropped on purpose")

    def _wait_seconds(self, failures: int) -> float:
        return 0.0


async def run(url: str, directory: Path) -> None:
    """Enrol and connect the agents, then obey standard input."""
    links: list[CyclingLink] = []
    while token := (await asyncio.to_thread(sys.stdin.readline)).strip():
        folder = directory / str(len(links))
        folder.mkdir()
        agent = agent_under_test.AgentUnderTest(cast("ScriptedRelay", Address(url, token)), folder)
        agent.only = Transport.WEBSOCKET  # websockets that are cut early would have it poll
        await agent.start()
        links.append(cast("CyclingLink", agent.link))
    for link in links:
        await link._connected.wait()
    print(json.dumps({}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        verb, *arguments = line.split()
        answer = {}
        if verb == "cycle":
            await asyncio.gather(*(link.cycle(int(arguments[0])) for link in links))
        else:
            gc.collect()
            answer = {"tasks": len(asyncio.all_tasks()), "descriptors": len(list(Path("/proc/self/fd").iterdir()))}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    with patch.object(agent_under_test, "Link", CyclingLink):
        uvloop.run(run(sys.argv[1], Path(sys.argv[2])))
