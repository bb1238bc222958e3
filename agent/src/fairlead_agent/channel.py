"""
A channel: whole frames to and from the relay, in order, over whatever transport could be opened.

The session and everything above it do not know which transport that is. A channel must not reconnect.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException

from fairlead_agent.errors import ChannelClosed


class Channel(Protocol):
    """One open way for frames."""

    transport: str
    """Its kind, for people: websocket or long-poll."""

    async def send(self, frame: bytes) -> None:
        """Send one frame; returns when the transport has room for more. Raises: ChannelClosed."""

    async def receive(self) -> bytes:
        """Return the next frame. Raises: ChannelClosed."""

    async def close(self) -> None:
        """Close it, without waiting long for the peer; idempotent, never raises for what the peer does."""


LONGEST_CLOSE_SECONDS = 5.0
"""Bounds the end of a connection, whatever the transport does: the next one waits for it."""


class WebsocketChannel:
    """A channel over one websocket: a frame is a binary message."""

    transport = "websocket"

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket

    async def send(self, frame: bytes) -> None:
        """Send one frame."""
        try:
            await self._websocket.send(frame)
        except (ConnectionClosed, OSError) as error:
            raise _closed(error) from error

    async def receive(self) -> bytes:
        """Return the next frame."""
        try:
            content = await self._websocket.recv()
        except (ConnectionClosed, OSError) as error:
            raise _closed(error) from error
        if isinstance(content, str):
            raise ChannelClosed("the relay sent a text message; frames are binary")
        return content

    async def close(self) -> None:
        """Close it."""
        try:
            # The library's own limit is for the peer's answer alone; a transport that takes no more bytes has none.
            async with asyncio.timeout(LONGEST_CLOSE_SECONDS):
                await self._websocket.close()
        except (OSError, WebSocketException):  # TimeoutError is an OSError
            self._websocket.transport.abort()


def _closed(error: Exception) -> ChannelClosed:
    if isinstance(error, ConnectionClosed) and error.rcvd is not None:
        said = f": {error.rcvd.reason}" if error.rcvd.reason else ""
        return ChannelClosed(f"closed by the relay ({error.rcvd.code}{said})", by_relay=True)
    cause = error.__cause__ or error
    return ChannelClosed(f"the connection broke ({str(cause)[:200] or type(cause).__name__})")
