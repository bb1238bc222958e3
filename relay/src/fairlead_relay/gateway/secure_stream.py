"""
TLS over one TCP connection of the agent port, with the handshake in our own hands.

The event loops' own TLS drops the alert when a handshake fails, so that a refused agent would never learn why; and it
holds 256 KiB per connection. Here the alert leaves, the failure is raised where it can be logged, and an idle
connection holds next to nothing. Must not know what the bytes mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import cast

from fairlead_relay.gateway.signals import Signal

READ_BYTES = 64 * 1024
"""Plaintext held for the reader; more stays encrypted, and then with the sender."""
ALERT_SECONDS = 1.0
"""How long a refused client gets to read the alert: closing at once might destroy it on the way."""


class SecureStream(asyncio.Protocol):
    """
    The server's end of one TLS connection.

    Args:
        context: Server context.

    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._transport: asyncio.Transport | None = None
        self._arrived = Signal()
        self._writable = Signal()
        self._writable.set()
        self._lost = Signal()
        self._reading_paused = False
        self._ended = False

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the TCP connection."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take ciphertext."""
        self._incoming.write(data)
        if self._incoming.pending >= READ_BYTES and self._transport is not None:
            self._transport.pause_reading()
            self._reading_paused = True
        self._arrived.set()

    def eof_received(self) -> bool:
        """Note that the peer sends no more."""
        self._incoming.write_eof()
        self._arrived.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (the loop's signature)
        """Note that nothing more goes either way."""
        self._incoming.write_eof()
        self._ended = True
        for waiting in (self._arrived, self._writable, self._lost):
            waiting.set()

    def pause_writing(self) -> None:
        """Hold writers back."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._writable.set()

    # What its owner calls.

    async def handshake(self) -> None:
        """
        Complete the handshake.

        Raises: ssl.SSLError: refused; the peer has been told why. ConnectionError: the peer went away.
        """
        while True:
            self._arrived.clear()
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                await self._arrived.wait()
            except ssl.SSLEOFError:
                raise ConnectionResetError("the client went away in the middle of the TLS handshake") from None
            except ssl.SSLError:
                await self._deliver_alert()
                raise
            else:
                self._flush()
                return

    async def read(self) -> bytes:
        """Return some bytes, at most READ_BYTES; none when the peer sends no more."""
        while True:
            self._arrived.clear()
            try:
                content = self._tls.read(READ_BYTES)
            except ssl.SSLWantReadError:
                self._flush()  # an answer to a key update
                if self._ended:
                    return b""
                if self._reading_paused and self._transport is not None:
                    self._reading_paused = False
                    self._transport.resume_reading()
                await self._arrived.wait()
            except ssl.SSLError:
                # Its end, in due form or not, or garbage: there is nothing more to read.
                return b""
            else:
                return content

    def write(self, content: bytes) -> None:
        """Send bytes; call drain() before sending more. Dropped when the connection is gone."""
        if self._ended or not content:
            return
        with contextlib.suppress(ssl.SSLError):
            self._tls.write(content)
            self._flush()

    async def drain(self) -> None:
        """Wait until there is room for more. Raises: ConnectionError: the connection is gone."""
        await self._writable.wait()
        if self._ended:
            raise ConnectionResetError("the connection is gone")

    def peer_certificate(self) -> bytes | None:
        """Return the client certificate, verified by the handshake, in DER form; None without one."""
        return self._tls.getpeercert(binary_form=True)

    def close(self) -> None:
        """Send what is queued, say goodbye and close; idempotent."""
        if self._ended or self._transport is None:
            return
        # Always "want read": the peer's goodbye is not waited for.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever is queued; idempotent."""
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        if self._outgoing.pending and self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._outgoing.read())

    async def _deliver_alert(self) -> None:
        self._flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ALERT_SECONDS):
                await self._lost.wait()
