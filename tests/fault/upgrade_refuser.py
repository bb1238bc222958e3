"""
A middlebox that bears no websockets: it refuses or cuts each upgrade, and passes what else it is asked.

It can tell an upgrade from other requests because it ends TLS with the relay's own certificate, as a load balancer in
front of the relay would. So no client certificate passes it: what can be tested behind it is what goes without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path


class Refusal(StrEnum):
    """What becomes of an upgrade."""

    BAD_REQUEST = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    BAD_GATEWAY = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    CUT = "cut"
    """The connection is reset instead of an answer."""
    CUT_AFTER_ANSWER = "cut after the answer"
    """The upgrade is answered by the relay, and the connection is reset at the first message."""


class UpgradeRefuser:
    """
    The middlebox.

    Args:
        relay_port: Of the relay on this machine.
        certificate: PEM of key and chain.
        refusal: What becomes of upgrades.
    """

    def __init__(self, relay_port: int, certificate: Path, refusal: Refusal) -> None:
        self.port = 0
        self.refused = 0
        """Upgrades refused or cut so far."""
        self.passed = 0
        """Connections whose first request was passed on."""
        self._relay_port = relay_port
        self._refusal = refusal
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self._to_relay = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._to_relay.check_hostname = False
        self._to_relay.verify_mode = ssl.CERT_NONE

    @property
    def url(self) -> str:
        """What an agent dials."""
        return f"wss://localhost:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"\r\nupgrade:" not in head.lower():
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

    async def _pass_on(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, cut: bool = False
    ) -> None:
        relay_reader, relay_writer = await asyncio.open_connection("127.0.0.1", self._relay_port, ssl=self._to_relay)
        try:
            relay_writer.write(head)
            if cut:
                writer.write(await relay_reader.readuntil(b"\r\n\r\n"))
                await reader.read(1)
                return
            tasks = [
                asyncio.create_task(_carry(reader, relay_writer)),
                asyncio.create_task(_carry(relay_reader, writer)),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            relay_writer.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while content := await reader.read(65536):
        writer.write(content)
        await writer.drain()


@asynccontextmanager
async def upgrade_refuser(relay_port: int, certificate: Path, refusal: Refusal) -> AsyncIterator[UpgradeRefuser]:
    """Run one in front of a relay on this machine until the block is left."""
    box = UpgradeRefuser(relay_port, certificate, refusal)
    server = await asyncio.start_server(box.serve, "127.0.0.1", 0, ssl=box.context)
    async with server:
        box.port = server.sockets[0].getsockname()[1]
        yield box
