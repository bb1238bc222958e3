"""
A channel inside another: TLS with the relay itself, in a network that ends the outer TLS on the way.

The relay's certificate and this agent's are presented and checked in the inner handshake, with the same context as
where nobody inspects. Must not reconnect.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque

from fairlead_agent.channel import Channel
from fairlead_agent.errors import ChannelClosed, ConnectFailed
from fairlead_agent.hop_failures import tls_reason
from fairlead_shared.errors import FrameInvalid
from fairlead_shared.inner_tls import InnerTls

HANDSHAKE_SECONDS = 20.0
"""For two round trips, over long-poll and a slow proxy too."""


class InnerChannel:
    """A channel inside another; open it with `open_inner`."""

    def __init__(self, outer: Channel, tls: InnerTls) -> None:
        self.transport = outer.transport
        self._outer = outer
        self._tls = tls
        self._frames: deque[bytes] = deque()
        self._writing = asyncio.Lock()

    async def send(self, frame: bytes) -> None:
        """Send one frame."""
        async with self._writing:
            self._tls.send(frame)
            await self._flush()

    async def receive(self) -> bytes:
        """Return the next frame."""
        while not self._frames:
            if self._tls.is_over:
                raise ChannelClosed("closed by the relay", by_relay=True)
            try:
                await self._receive_more()
            except ssl.SSLError as error:
                raise ChannelClosed(f"inner TLS: {tls_reason(error)}") from error
            except FrameInvalid as error:
                raise ChannelClosed(f"inner TLS: {error.reason}") from error
        return self._frames.popleft()

    async def close(self) -> None:
        """Close it."""
        with contextlib.suppress(ChannelClosed):
            async with self._writing:
                self._tls.close()
                await self._flush()
        await self._outer.close()

    async def greet(self) -> None:
        """
        Complete the handshake, up to the relay's empty frame: only that says that it accepts this agent's certificate.

        Raises: ssl.SSLError, FrameInvalid, ChannelClosed.
        """
        async with self._writing:
            self._tls.start()
            await self._flush()
        while not self._frames:
            if self._tls.is_over:
                raise ChannelClosed("closed by the relay", by_relay=True)
            await self._receive_more()
        self._frames.popleft()

    async def _receive_more(self) -> None:
        content = await self._outer.receive()
        try:
            self._frames.extend(self._tls.receive(content))
        finally:
            # Handshake messages; or an alert, which tells the relay why.
            async with self._writing:
                await self._flush()

    async def _flush(self) -> None:
        for piece in self._tls.data_to_send():
            await self._outer.send(piece)


async def open_inner(outer: Channel, context: ssl.SSLContext, host: str, address: str) -> InnerChannel:
    """
    Speak TLS with the relay inside a channel; the channel is closed if that fails.

    Args:
        outer: Just opened.
        context: Whom to trust and which certificate to present.
        host: The relay's, which its certificate must name.
        address: HOST:PORT of the relay, for errors.
    Raises: ConnectFailed: hop TLS, as if there were no outer connection.
    """
    channel = InnerChannel(outer, InnerTls(context, host))
    reason = ""
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            await channel.greet()
    except TimeoutError:
        reason = f"no answer within {HANDSHAKE_SECONDS:.0f} s"
    except ssl.SSLError as error:
        reason = tls_reason(error)
    except FrameInvalid as error:
        reason = error.reason
    except ChannelClosed as error:
        await channel.close()
        failed = ConnectFailed("TLS", address, f"inside the inspected connection: {error.reason}")
        failed.cut_upgrade = not error.by_relay
        raise failed from error
    except BaseException:
        await channel.close()
        raise
    else:
        return channel
    await channel.close()
    raise ConnectFailed("TLS", address, f"inside the inspected connection: {reason}")
