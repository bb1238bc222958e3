"""
A middlebox that ends TLS on the way: it may refuse or cut each upgrade, and alter what it carries.

With the relay's own certificate it stands for a load balancer in front of the relay, with another for a network that
inspects TLS. No client certificate passes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum

from tests.polling import PATIENCE_SECONDS


class Refusal(StrEnum):
    """What becomes of an upgrade."""

    BAD_REQUEST = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    BAD_GATEWAY = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    NEVER = "never"
    """Upgrades pass."""
    CUT = "cut"
    """The connection is reset instead of an answer."""
    CUT_AFTER_ANSWER = "cut after the answer"
    """The upgrade is answered by the relay, and the connection is reset at the first message."""


def unchanged(content: bytes) -> bytes:
    """Carry on as it came."""
    return content


class Middlebox:
    """
    The middlebox.

    Args:
        relay_port: Of the relay on this machine.
        refusal: What becomes of upgrades.
    """

    def __init__(self, relay_port: int, refusal: Refusal) -> None:
        self.port = 0
        self.refused = 0
        """Upgrades refused or cut so far."""
        self.passed = 0
        """Connections whose first request was passed on."""
        self._relay_port = relay_port
        self._refusal = refusal
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.to_relay: Callable[[bytes], bytes] = unchanged
        """What becomes of bytes on their way to the relay, after a request's head."""
        self.to_agent: Callable[[bytes], bytes] = unchanged
        self._relay_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._relay_context.check_hostname = False
        self._relay_context.verify_mode = ssl.CERT_NONE

    @property
    def url(self) -> str:
        """What an agent dials."""
        return f"wss://localhost:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        task.add_done_callback(self._open.pop)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if self._refusal is Refusal.NEVER or b"\r\nupgrade:" not in head.lower():
                self.passed += 1
                await self._pass_on(head, reader, writer)
                return
            self.refused += 1
            if self._refusal is Refusal.CUT_AFTER_ANSWER:
                await self._pass_on(head, reader, writer, cut=True)
            elif self._refusal is not Refusal.CUT:
                writer.write(self._refusal.encode())
                await writer.drain()
                writer.close()
        except (OSError, EOFError):
            pass
        finally:
            if self._refusal in (Refusal.BAD_REQUEST, Refusal.BAD_GATEWAY):
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(1):
                        await writer.wait_closed()
            writer.transport.abort()

    async def end(self) -> None:
        """End every connection; one that still dials the relay ends after that, or its socket would stay open."""
        for writer in self._open.values():
            writer.transport.abort()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*self._open)

    def _change_to_relay(self, content: bytes) -> bytes:
        return self.to_relay(content)

    def _change_to_agent(self, content: bytes) -> bytes:
        return self.to_agent(content)

    async def _pass_on(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, cut: bool = False
    ) -> None:
        relay_reader, relay_writer = await asyncio.open_connection(
            "127.0.0.1", self._relay_port, ssl=self._relay_context
        )
        try:
            relay_writer.write(head)
            if cut:
                writer.write(await relay_reader.readuntil(b"\r\n\r\n"))
                await reader.read(1)
                return
            tasks = [
                asyncio.create_task(_carry(reader, relay_writer, self._change_to_relay)),
                asyncio.create_task(_carry(relay_reader, writer, self._change_to_agent)),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            relay_writer.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Callable[[bytes], bytes]) -> None:
    while content := await reader.read(65536):
        writer.write(change(content))
        await writer.drain()


@asynccontextmanager
async def middlebox(
    relay_port: int, context: ssl.SSLContext, refusal: Refusal = Refusal.NEVER
) -> AsyncIterator[Middlebox]:
    """Run one in front of a relay on this machine, with the certificate of a context, until the block is left."""
    box = Middlebox(relay_port, refusal)
    server = await asyncio.start_server(box.serve, "127.0.0.1", 0, ssl=context)
    async with server:
        box.port = server.sockets[0].getsockname()[1]
        yield box
    await box.end()
