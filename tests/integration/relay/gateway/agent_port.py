"""The agent port's own TLS with a throwaway CA, and raw requests to it: for tests of what is below the session."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fairlead_relay.gateway.listener import Listener
from fairlead_relay.gateway.secure_stream import SecureStream
from tests.integration.scripted_relay import ThrowawayCa

Serve = Callable[[SecureStream], Awaitable[None]]


@dataclass
class Port:
    """A listening port and how to trust it."""

    number: int
    context: ssl.SSLContext
    listener: Listener

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect."""
        return await asyncio.open_connection("127.0.0.1", self.number, ssl=self.context)


@asynccontextmanager
async def agent_port(serve: Serve) -> AsyncIterator[Port]:
    """Listen until the block is left; connections are cut off then."""
    ca = ThrowawayCa()
    listener = Listener(ca.server_context(("127.0.0.1",)), serve, time.monotonic)
    bound = socket.create_server(("127.0.0.1", 0))
    number = bound.getsockname()[1]
    listener.start(bound)
    try:
        yield Port(number, ssl.create_default_context(cadata=ca.root_pem), listener)
    finally:
        await listener.stop(0.1)


@dataclass
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes


class Requests:
    """
    HTTP/1.1 by hand, over one connection.

    Args:
        reader: Of the connection.
        writer: Of the connection.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Send a request and return the answer; header names have underscores for hyphens."""
        lines = [f"{method} {path} HTTP/1.1", "Host: relay", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return await self.raw("\r\n".join([*lines, "", ""]).encode() + body)

    async def raw(self, content: bytes) -> Answer:
        """Send bytes and return the answer."""
        self._writer.write(content)
        await self._writer.drain()
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        found = dict(line.split(": ", 1) for line in head[1:] if line)
        body = await self._reader.readexactly(int(found.get("Content-Length", "0")))
        return Answer(int(head[0].split()[1]), found, body)

    def close(self) -> None:
        """Cut the connection."""
        self._writer.transport.abort()
