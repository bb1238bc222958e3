"""
A TCP proxy that breaks connections on purpose: it delays, slows, cuts off, resets, swallows, or leaves one side open.

Which fault each connection gets comes from a script, and scripts come from a seed, so that a failure can be run again.
It sees ciphertext only, as whatever breaks real connections does.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

CHUNK_BYTES = 16 * 1024
SILENT_SECONDS = 60.0
"""How long a connection that carries nothing is kept: longer than anybody should wait for it."""


class Break(StrEnum):
    """How a connection ends."""

    NEVER = "never"
    RESET = "reset"
    """RST to both sides."""
    TRUNCATE = "truncate"
    """FIN to both sides, in the middle of whatever was said."""
    BLACKHOLE = "blackhole"
    """Nothing more passes, and nobody is told."""
    FORGET_RELAY = "forget relay"
    """RST to the relay; the agent's side stays open and silent."""
    FORGET_AGENT = "forget agent"
    """RST to the agent; the relay's side stays open and silent."""
    REFUSE = "refuse"
    """RST at once, before a byte has passed."""


LOUD = (Break.RESET, Break.TRUNCATE, Break.REFUSE)
"""Breaks that the agent notices at once."""
SILENT = (Break.BLACKHOLE, Break.FORGET_RELAY, Break.FORGET_AGENT)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one connection."""

    kind: Break = Break.NEVER
    after_bytes: int = 1 << 60
    """Counted in both directions together; the chunk that passes it is cut there."""
    after_seconds: float = 3600.0
    """Or after so long, whichever comes first."""
    delay_seconds: float = 0.0
    """Added to each chunk."""
    bytes_per_second: float = float("inf")
    """In each direction."""
    silent_seconds: float = SILENT_SECONDS
    """After so long in silence, a silent break becomes a reset."""


FAITHFUL = Fault()


def loud_script(seed: int, count: int, *, most_bytes: int = 30_000, most_seconds: float = 0.4) -> Iterator[Fault]:
    """
    Return faults for `count` connections, all noticed within moments, then faithful ones.

    Args:
        seed: The same seed gives the same script.
        count: How many connections to break.
        most_bytes: Breaks come at random before so many bytes.
        most_seconds: And before so many seconds.
    """
    dice = random.Random(seed)
    for _ in range(count):
        kind = dice.choices((Break.RESET, Break.TRUNCATE, Break.REFUSE, Break.BLACKHOLE), (6, 5, 1, 1))[0]
        yield Fault(
            kind,
            # Often within the handshakes, whose every step must bear it.
            after_bytes=int(most_bytes ** dice.uniform(0.3, 1)),
            after_seconds=dice.uniform(0.05, most_seconds),
            delay_seconds=dice.choice((0, 0, 0, 0.005, 0.02)),
            bytes_per_second=dice.choice((float("inf"), float("inf"), 200_000)),
            silent_seconds=dice.uniform(0, most_seconds),
        )


class FaultyProxy:
    """
    The proxy.

    Args:
        port: Where the relay listens, on this machine.
        script: One fault for each connection, in the order they are made; when it ends, connections are faithful.
    """

    def __init__(self, port: int, script: Iterable[Fault] = ()) -> None:
        self.relay_port = port
        self.port = 0
        self.broken = 0
        """Connections that were broken so far."""
        self.accepted = 0
        self._script = iter(script)
        self._tasks: set[asyncio.Task[None]] = set()
        self._present: list[asyncio.Event] = []

    @property
    def url(self) -> str:
        """What an agent dials."""
        return f"wss://localhost:{self.port}"

    def follow(self, script: Iterable[Fault]) -> None:
        """Take another script for the connections to come."""
        self._script = iter(script)

    def break_now(self) -> None:
        """Have the present connections meet their fault now."""
        for due in self._present:
            due.set()

    async def run(self, accepted: socket.socket) -> None:
        """Carry one connection to its end."""
        fault = next(self._script, FAITHFUL)
        self.accepted += 1
        if fault.kind is Break.REFUSE:
            self.broken += 1
            _reset(accepted)
            return
        loop = asyncio.get_running_loop()
        relay = socket.socket()
        relay.settimeout(0)
        due = asyncio.Event()
        self._present.append(due)
        flow = _Flow(fault, due)
        tasks: list[asyncio.Task[Any]] = []
        try:
            await loop.sock_connect(relay, ("127.0.0.1", self.relay_port))
            tasks = [asyncio.create_task(flow.carry(accepted, relay)), asyncio.create_task(flow.carry(relay, accepted))]
            waiting = asyncio.create_task(due.wait())
            tasks.append(waiting)
            await asyncio.wait(tasks, timeout=fault.after_seconds, return_when=asyncio.FIRST_COMPLETED)
            ended = any(task.done() for task in tasks[:2]) and not due.is_set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if not ended and fault.kind is not Break.NEVER:
                self.broken += 1
                await self._break(fault, accepted, relay)
        except OSError:
            pass  # the relay is not there
        finally:
            for task in tasks:
                task.cancel()
            self._present.remove(due)
            if fault.kind is Break.TRUNCATE:
                accepted.close()
                relay.close()
            else:
                _reset(accepted)
                _reset(relay)

    async def _break(self, fault: Fault, agent: socket.socket, relay: socket.socket) -> None:
        if fault.kind is Break.FORGET_RELAY:
            _reset(relay)
        if fault.kind is Break.FORGET_AGENT:
            _reset(agent)
        if fault.kind in SILENT:
            await asyncio.sleep(fault.silent_seconds)


class _Flow:
    """Both directions of one connection."""

    def __init__(self, fault: Fault, due: asyncio.Event) -> None:
        self._fault = fault
        self._due = due
        self._left = fault.after_bytes

    async def carry(self, source: socket.socket, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while content := await loop.sock_recv(source, CHUNK_BYTES):
            pause = self._fault.delay_seconds + len(content) / self._fault.bytes_per_second
            if pause:
                await asyncio.sleep(pause)
            passing = content[: self._left]
            self._left -= len(passing)
            await loop.sock_sendall(sink, passing)
            if self._left <= 0:
                self._due.set()
                await asyncio.Event().wait()


def _reset(one: socket.socket) -> None:
    """Close with RST instead of FIN."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


@asynccontextmanager
async def faulty_proxy(relay_port: int, script: Iterable[Fault] = ()) -> AsyncIterator[FaultyProxy]:
    """Run one in front of a relay on this machine until the block is left."""
    proxy = FaultyProxy(relay_port, script)
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        listener.settimeout(0)
        proxy.port = listener.getsockname()[1]

        async def accept() -> None:
            while True:
                accepted, _ = await loop.sock_accept(listener)
                accepted.settimeout(0)
                task = asyncio.create_task(proxy.run(accepted))
                proxy._tasks.add(task)
                task.add_done_callback(proxy._tasks.discard)

        accepting = asyncio.create_task(accept())
        try:
            yield proxy
        finally:
            accepting.cancel()
            for task in proxy._tasks:
                task.cancel()
            await asyncio.gather(accepting, *proxy._tasks, return_exceptions=True)
