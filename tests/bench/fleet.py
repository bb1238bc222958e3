"""
Many agents in one process of their own: enrols them, connects them and keeps them connected, as told on standard input.

Each agent has its own key, certificate, TLS connection and session (the shared sans-I/O one, with its heartbeats), but
no cluster: what it is offered, it says it did. It is a load, and the other end is what is measured. One command a line,
one JSON answer each:

    enrol URL TOKEN TOKEN …   → {"count", "seconds"}; the agents are of no further use
    load FILE                 → {"count"}; agents that `identities` made
    shake URL COUNT           → {"count", "seconds"}; TLS handshakes with a client certificate, closed at once
    connect URL COUNT         → {"count", "seconds"}; so many more, with sessions as agents have
    open URL COUNT            → the same; bare websockets, for a peer that knows no session
    echo COUNT                → {"count", "p50", "p99"}, in seconds; a heartbeat or a message, and its answer
    offers                    → job id → when its offer came, on the clock of perf_counter; those since the last time
    leave                     → {"count"}; all of them

Must not: connect to anything but the URL it is given.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import uvloop
from cryptography.hazmat.primitives import serialization
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from fairlead_shared.frames import Heartbeat, HeartbeatAck, JobAccept, JobOffer, Progress
from fairlead_shared.progress import Outcome, ResultEvent
from fairlead_shared.session import Acknowledged, Opened, Received
from tests.bench.figures import percentile
from tests.integration.scripted_agent import AgentWire, ScriptedAgent

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

AT_ONCE = 32
"""Connections that are being made at a time: enough to keep the other end busy, few enough for its backlog."""
_OPEN_SECONDS = 60.0
_LIKE_A_HEARTBEAT = b'{"kind":"heartbeat","number":1,"jobs":[]}'
T = TypeVar("T")
Made = TypeVar("Made")


class Member(Protocol):
    """One connection."""

    async def ping(self) -> None:
        """Send something small and wait for its answer."""

    async def close(self) -> None:
        """End it."""


class SessionMember:
    """
    A connection with a session, as agents have.

    Args:
        wire: Open.
        offered: Gets job id → when its offer came.
    """

    def __init__(self, wire: AgentWire, offered: dict[str, float]) -> None:
        self._wire = wire
        self._offered = offered
        self._answered: dict[int, asyncio.Future[None]] = {}
        self._draining = asyncio.create_task(self._drain())

    async def ping(self) -> None:
        """Send a heartbeat and wait for its answer."""
        if (closed := self._wire.session.close_reason) is not None:
            raise ConnectionError(f"a session ended: {closed.reason}")
        answered = asyncio.get_running_loop().create_future()

        def build(number: int) -> Heartbeat:
            self._answered[number] = answered
            return Heartbeat(number=number, jobs=())

        self._wire.session.heartbeat(build)
        await self._wire.flush()
        await answered

    async def close(self) -> None:
        """End it."""
        self._draining.cancel()
        await asyncio.gather(self._draining, return_exceptions=True)
        await self._wire.close()

    async def _drain(self) -> None:
        while True:
            event = await self._wire.events.get()
            if isinstance(event, Received) and isinstance(event.message, HeartbeatAck):
                answered = self._answered.pop(event.message.number, None)
                if answered is not None:
                    answered.set_result(None)
            elif isinstance(event, Received) and isinstance(event.message, JobOffer):
                self._offered[event.message.job_id] = time.perf_counter()
                await self._succeed(event.message)
            elif isinstance(event, Acknowledged):
                self._wire.session.end_stream(event.job_id)

    async def _succeed(self, offer: JobOffer) -> None:
        """Take a job and report that it is done."""
        session = self._wire.session
        session.send(JobAccept(job_id=offer.job_id, attempt=offer.attempt, token=offer.token))
        session.start_stream(offer.job_id, offer.acknowledged_seq)
        result = ResultEvent(key="result", at=time.time(), outcome=Outcome.SUCCEEDED, cause="")
        seq = session.next_seq(offer.job_id)
        session.send_progress(Progress(job_id=offer.job_id, token=offer.token, seq=seq, event=result))
        await self._wire.flush()


class BareMember:
    """
    A websocket to a server that sends back what it gets.

    Args:
        socket: Open.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def ping(self) -> None:
        """Send as many bytes as a heartbeat has, and get them back."""
        await self._socket.send(_LIKE_A_HEARTBEAT)
        await self._socket.recv()

    async def close(self) -> None:
        """End it."""
        await self._socket.close()


class Fleet:
    """The agents and their connections."""

    def __init__(self) -> None:
        self._agents: list[tuple[ScriptedAgent, ssl.SSLContext]] = []
        self._members: list[Member] = []
        self._offered: dict[str, float] = {}

    async def enrol(self, url: str, *tokens: str) -> dict[str, float]:
        """Enrol one agent for each token."""
        began = time.perf_counter()
        agents = await _each(tokens, lambda token: ScriptedAgent.enrol(url, token))
        return {"count": len(agents), "seconds": time.perf_counter() - began}

    async def load(self, file: str) -> dict[str, float]:
        """Take agents over."""
        signer = base64.b64encode(bytes(32)).decode()
        for line in Path(file).read_text().splitlines():
            made = json.loads(line)
            key = serialization.load_pem_private_key(made["key"].encode(), None)
            agent = ScriptedAgent("", made["root"], made["chain"], cast("ec.EllipticCurvePrivateKey", key), signer)
            self._agents.append((agent, agent.context()))
        return {"count": len(self._agents)}

    async def shake(self, url: str, count: str) -> dict[str, float]:
        """Do TLS handshakes and nothing else."""
        host, port = url.removeprefix("wss://").split(":")

        async def one(agent: tuple[ScriptedAgent, ssl.SSLContext]) -> None:
            _, writer = await asyncio.open_connection(host, int(port), ssl=agent[1])
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

        _, answer = await self._timed(one, self._agents[: int(count)])
        return answer

    async def connect(self, url: str, count: str) -> dict[str, float]:
        """Connect more agents, and wait for each one's welcome."""

        async def one(agent: tuple[ScriptedAgent, ssl.SSLContext]) -> Member:
            wire = AgentWire(await _open(url, agent[1]))
            await wire.send(agent[0].hello())
            await wire.wait_event(Opened)
            return SessionMember(wire, self._offered)

        return await self._join(one, int(count))

    async def open(self, url: str, count: str) -> dict[str, float]:
        """Open bare websockets for more agents, with their certificates."""

        async def one(agent: tuple[ScriptedAgent, ssl.SSLContext]) -> Member:
            return BareMember(await _open(url, agent[1]))

        return await self._join(one, int(count))

    async def echo(self, count: str) -> dict[str, float]:
        """Time answers, one after the other, from connections chosen at random."""
        dice = random.Random(1)
        taken = []
        for _ in range(int(count)):
            began = time.perf_counter()
            await dice.choice(self._members).ping()
            taken.append(time.perf_counter() - began)
        return {"count": len(taken), "p50": percentile(taken, 0.5), "p99": percentile(taken, 0.99)}

    async def offers(self) -> dict[str, float]:
        """Return when offers came, once."""
        found = dict(self._offered)
        self._offered.clear()
        return found

    async def leave(self) -> dict[str, float]:
        """Close every connection."""
        left, self._members = self._members, []
        await _each(left, lambda member: member.close())
        return {"count": len(left)}

    async def _join(
        self, make: Callable[[tuple[ScriptedAgent, ssl.SSLContext]], Awaitable[Member]], count: int
    ) -> dict[str, float]:
        first = len(self._members)
        made, answer = await self._timed(make, self._agents[first : first + count])
        self._members += made
        return answer

    async def _timed(
        self, make: Callable[[T], Awaitable[Made]], items: Sequence[T]
    ) -> tuple[list[Made], dict[str, float]]:
        began = time.perf_counter()
        made = await _each(items, make)
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
        "enrol": fleet.enrol, "load": fleet.load, "shake": fleet.shake, "connect": fleet.connect, "open": fleet.open,
        "echo": fleet.echo, "offers": fleet.offers, "leave": fleet.leave,
    }  # fmt: skip
    while line := await asyncio.to_thread(sys.stdin.readline):
        verb, *arguments = line.split()
        print(json.dumps(await obey[verb](*arguments)), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve())
