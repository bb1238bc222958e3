"""
A channel inside another: the relay's own TLS with an agent whose network ends the outer TLS on the way.

Whoever ended the outer one is nobody to this relay: who the agent is, is said by the inner handshake alone, with the
same context, and so by the same rules, as on the port itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque

from fairlead_relay.errors import ChannelClosed
from fairlead_relay.gateway.channel import Channel
from fairlead_shared.errors import FrameInvalid
from fairlead_shared.inner_tls import InnerTls


class InnerChannel:
    """
    One inner connection.

    Args:
        outer: Its messages.
        context: The agent port's.

    """

    def __init__(self, outer: Channel, context: ssl.SSLContext) -> None:
        self.transport = f"{outer.transport}, inner TLS"
        self._outer = outer
        self._tls = InnerTls(context, None)
        self._frames: deque[bytes] = deque()
        self._writing = asyncio.Lock()

    async def handshake(self, seconds: float) -> None:
        """
        Complete the handshake, and tell the agent so by an empty frame.

        Args:
            seconds: How long it may take.

        Raises: ChannelClosed: it was refused, and the agent was told why; or it went away.
        """
        try:
            async with asyncio.timeout(seconds):
                while not self._tls.is_established:
                    await self._receive_more()
                await self.send(b"")
        except TimeoutError:
            raise ChannelClosed(f"no inner TLS handshake within {seconds:.0f} s") from None

    def peer_certificate(self) -> bytes | None:
        """Return the client certificate, verified by the handshake, in DER form; None without one."""
        return self._tls.peer_certificate()

    async def send(self, frame: bytes) -> None:
        """Send one frame."""
        async with self._writing:
            self._tls.send(frame)
            await self._flush()

    async def receive(self) -> bytes | None:
        """Return the next frame."""
        while not self._frames:
            if self._tls.is_over:
                raise ChannelClosed("closed by the peer")
            await self._receive_more()
        return self._frames.popleft()

    async def close(self) -> None:
        """Close it in due form."""
        with contextlib.suppress(ChannelClosed):
            async with self._writing:
                self._tls.close()
                await self._flush()
        await self._outer.close()

    def abort(self) -> None:
        """Close it at once."""
        self._outer.abort()

    async def _receive_more(self) -> None:
        content = await self._outer.receive()
        try:
            self._frames.extend(self._tls.receive(content or b""))
        except ssl.SSLError as error:
            said = getattr(error, "verify_message", "") or error.reason or str(error)
            raise ChannelClosed(f"inner TLS: {said}") from error
        except FrameInvalid as error:
            raise ChannelClosed(f"inner TLS: {error.reason}") from error
        finally:
            with contextlib.suppress(ChannelClosed):
                async with self._writing:
                    await self._flush()

    async def _flush(self) -> None:
        for piece in self._tls.data_to_send():
            await self._outer.send(piece)
