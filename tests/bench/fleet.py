"""
Many agents in one process of their own: enrols them, connects them and keeps them connected, as told on standard input.

Each agent has its own key, certificate, TLS connection and session (the shared sans-I/O one, with its heartbeats), but
no cluster and no runner: it is a load, and the other end is what is measured. One command a line, one JSON answer each:

    enrol URL TOKEN TOKEN …   → {"count", "seconds"}
    connect URL COUNT         → {"count", "seconds"}; so many more, with sessions as agents have
    open URL COUNT            → the same; bare websockets, for a peer that knows no session
    leave                     → {"count"}; all of them

Must not: connect to anything but the URL it is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from fairlead_shared.session import Opened
from tests.integration.scripted_agent import AgentWire, ScriptedAgent

AT_ONCE = 32
"""Connections that are being made at a time: enough to keep the other end busy, few enough for its backlog."""
_OPEN_SECONDS = 30.0
T = TypeVar("T")
Made = TypeVar("Made")


class Fleet:
    """The agents and their connections."""

    def __init__(self) -> None:
        self._agents: list[tuple[ScriptedAgent, ssl.SSLContext]] = []
        self._wires: list[AgentWire] = []
        self._sockets: list[ClientConnection] = []
        self._drains: list[asyncio.Task[None]] = []
        self._connected = 0
        """How many of the agents, from the first on."""

    async def enrol(self, url: str, *tokens: str) -> dict[str, float]:
        """Enrol one agent for each token."""
        began = time.perf_counter()
        agents = await _each(tokens, lambda token: ScriptedAgent.enrol(url, token))
        self._agents = [(agent, agent.context()) for agent in agents]
        return {"count": len(agents), "seconds": time.perf_counter() - began}

    async def connect(self, url: str, count: str) -> dict[str, float]:
        """Connect more agents, and wait for each one's welcome."""

        async def one(agent: tuple[ScriptedAgent, ssl.SSLContext]) -> AgentWire:
            wire = AgentWire(await _open(url, agent[1]))
            await wire.send(agent[0].hello())
            await wire.wait_event(Opened)
            return wire

        wires, answer = await self._timed(one, int(count))
        self._wires += wires
        self._drains += [asyncio.create_task(_drain(wire)) for wire in wires]
        return answer

    async def open(self, url: str, count: str) -> dict[str, float]:
        """Open bare websockets for more agents, with their certificates."""
        sockets, answer = await self._timed(lambda agent: _open(url, agent[1]), int(count))
        self._sockets += sockets
        return answer

    async def leave(self) -> dict[str, float]:
        """Close every connection."""
        count, self._connected = self._connected, 0
        for task in self._drains:
            task.cancel()
        await asyncio.gather(*self._drains, return_exceptions=True)
        await asyncio.gather(*(wire.close() for wire in self._wires), *(one.close() for one in self._sockets))
        self._wires, self._sockets, self._drains = [], [], []
        return {"count": count}

    async def _timed(
        self, make: Callable[[tuple[ScriptedAgent, ssl.SSLContext]], Awaitable[Made]], count: int
    ) -> tuple[list[Made], dict[str, float]]:
        chosen = self._agents[self._connected : self._connected + count]
        began = time.perf_counter()
        made = await _each(chosen, make)
        self._connected += len(made)
        return made, {"count": len(made), "seconds": time.perf_counter() - began}


async def _open(url: str, context: ssl.SSLContext) -> ClientConnection:
    return await connect(
        f"{url}/v1/agent",
        ssl=context,
        subprotocols=[Subprotocol("fairlead.v1")],
        compression=None,
        ping_interval=None,
        open_timeout=_OPEN_SECONDS,
    )


async def _drain(wire: AgentWire) -> None:
    """Throw away what the session tells, such as answers to heartbeats."""
    while True:
        await wire.events.get()


async def _each(items: Sequence[T], make: Callable[[T], Awaitable[Made]]) -> list[Made]:
    """Make something of each item, AT_ONCE of them at a time, in the items' order."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: T) -> Made:
        async with gate:
            return await make(item)

    return await asyncio.gather(*(one(item) for item in items))


async def serve() -> None:
    """Obey standard input until it ends."""
    fleet = Fleet()
    obey: dict[str, Callable[..., Awaitable[dict[str, float]]]] = {
        "enrol": fleet.enrol, "connect": fleet.connect, "open": fleet.open, "leave": fleet.leave,
    }  # fmt: skip
    while line := await asyncio.to_thread(sys.stdin.readline):
        verb, *arguments = line.split()
        print(json.dumps(await obey[verb](*arguments)), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve())
