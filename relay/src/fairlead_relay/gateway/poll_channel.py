"""
The channel of an agent whose network keeps no websocket: frames in the bodies of HTTPS requests (long-poll).

One direction per request. Batches are numbered in each direction, so that a request whose answer was lost is repeated
and nothing is lost or doubled: the relay remembers the number of the last batch it took, and keeps the last batch it
gave until the next one is asked for. What a session means by a connection is the whole series of requests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from http import HTTPStatus

from fairlead_relay.errors import ChannelClosed, RequestInvalid
from fairlead_relay.pki.authority import AgentCertificate
from fairlead_shared.frames import MAX_FRAME_BYTES
from fairlead_shared.poll_batches import MAX_BATCH_BYTES, join_frames

HOLD_SECONDS = 10.0
"""How long a request for frames waits for some: so short that a request whose
connection is half-open is repeated within the 25 s after which a session calls its peer silent."""
CLOSE_SECONDS = 5.0
"""How long the last frames wait to be fetched."""
OUTBOX_BYTES = 256 * 1024
"""Frames waiting to be fetched; writing waits beyond it."""


class PollChannel:
    """
    One series of requests.

    Args:
        certificate: Of its first request, None without one; each further one must name the same agent.

    """

    transport = "long-poll"

    def __init__(self, certificate: AgentCertificate | None) -> None:
        self.certificate = certificate
        self._inbox: deque[bytes] = deque()
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._taken = 0
        """Number of the last batch taken from the agent."""
        self._given = 0
        """Number of the last batch given to the agent."""
        self._batch = b""
        """That batch, until the next one is asked for."""
        self._asked = 0
        """Counts requests for frames: the latest one alone is held."""
        self._closed = False
        self._changed = asyncio.Condition()

    def belongs_to(self, certificate: AgentCertificate | None) -> bool:
        """Tell whether a request with this certificate, perhaps a renewed one, is part of the series."""
        if certificate is None or self.certificate is None:
            return certificate is self.certificate
        return certificate.identity == self.certificate.identity

    # The session's side.

    async def send(self, frame: bytes) -> None:
        """Queue one frame for the next request."""
        async with self._changed:
            if self._closed:
                raise ChannelClosed("the long-poll session is over")
            self._outbox.append(frame)
            self._outbox_bytes += len(frame)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._closed or self._outbox_bytes < OUTBOX_BYTES)

    async def receive(self) -> bytes | None:
        """Return the next frame."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or self._inbox)
            if not self._inbox:
                raise ChannelClosed("the agent ended the long-poll session")
            frame = self._inbox.popleft()
            self._changed.notify_all()
            return frame

    async def close(self) -> None:
        """End it, once the last frames were fetched."""
        async with self._changed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._changed.wait_for(lambda: self._closed or not self._outbox)
            self._end()

    def abort(self) -> None:
        """End it at once; requests that are held learn of it within HOLD_SECONDS."""
        self._closed = True

    # The requests' side.

    async def take(self, number: int, frames: Sequence[bytes]) -> None:
        """
        Take a batch from the agent; returns when the session has read it, which holds a fast sender back.

        Raises: RequestInvalid: the session is over, or a batch is missing.
        """
        async with self._changed:
            self._require_open()
            if number == self._taken:
                return  # its answer was lost
            if number != self._taken + 1:
                raise RequestInvalid(HTTPStatus.CONFLICT, f"batch {number} after {self._taken}")
            self._taken = number
            self._inbox.extend(frames)
            self._changed.notify_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HOLD_SECONDS):
                    await self._changed.wait_for(lambda: self._closed or not self._inbox)

    async def give(self, number: int) -> bytes:
        """
        Return a batch for the agent, empty when there was nothing to send for HOLD_SECONDS.

        Args:
            number: The batch's: that of the last one again when its answer was lost, else the next.

        Raises: RequestInvalid: the session is over, or the number is neither.

        """
        async with self._changed:
            if number == self._given and self._batch:
                return self._batch
            if number != self._given + 1:
                raise RequestInvalid(HTTPStatus.CONFLICT, f"batch {number} asked for after {self._given}")
            self._batch = b""
            self._asked += 1
            mine = self._asked
            self._changed.notify_all()  # releases an older request for the same batch
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HOLD_SECONDS):
                    await self._changed.wait_for(lambda: self._closed or self._outbox or self._asked != mine)
            if self._asked != mine:
                return b""
            if not self._outbox:
                self._require_open()
                return b""
            self._batch = join_frames(self._next_frames())
            self._given = number
            self._changed.notify_all()
            return self._batch

    async def leave(self) -> None:
        """End it because the agent says so."""
        async with self._changed:
            self._end()

    def _next_frames(self) -> list[bytes]:
        frames: list[bytes] = []
        room = MAX_BATCH_BYTES
        while self._outbox and len(self._outbox[0]) <= min(room, MAX_FRAME_BYTES):
            frame = self._outbox.popleft()
            self._outbox_bytes -= len(frame)
            room -= len(frame) + 4
            frames.append(frame)
        return frames

    def _require_open(self) -> None:
        if self._closed:
            raise RequestInvalid(HTTPStatus.GONE, "this long-poll session is over; begin another")

    def _end(self) -> None:
        self._closed = True
        self._changed.notify_all()
