"""
A channel: whole frames to and from one agent, in order, over whatever transport it could open.

The session and everything above it do not know which transport that is.
"""

from __future__ import annotations

from typing import Protocol


class Channel(Protocol):
    """One open way for frames."""

    transport: str
    """Its kind, for people: websocket or long-poll."""

    async def send(self, frame: bytes) -> None:
        """Send one frame; returns when the transport has room for more. Raises: ChannelClosed."""

    async def receive(self) -> bytes | None:
        """Return the next frame, None for a message that is none. Raises: ChannelClosed."""

    async def close(self) -> None:
        """Close it, without waiting long for the peer; idempotent."""

    def abort(self) -> None:
        """Close it at once: the peer is silent, and nothing more can be said to it."""
