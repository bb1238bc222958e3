"""
One session on one channel: moves bytes and time between the sans-I/O session and the network, and nothing else.

Two loops, a timer and one consumer. Back-pressure goes both ways: writing waits until the peer takes bytes, and reading
stops while the consumer is behind. What the session's events mean is the consumer's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fairlead_relay.errors import ChannelClosed
from fairlead_relay.gateway.channel import Channel
from fairlead_relay.gateway.signals import Signal
from fairlead_shared.errors import ErrorCode
from fairlead_shared.session import Closed, Event, Phase, Session

Monotonic = Callable[[], float]
"""Monotonic seconds."""

INBOX_EVENTS = 512
"""Reading stops while so many events wait: two windows of progress, and a bound on memory per connection."""

FLUSH_SECONDS = 5.0
"""How long the last frames, such as the error that says why, may take to leave."""


class Wire:
    """
    Drives one session.

    Args:
        channel: The accepted connection.
        session: Its protocol state; call wake() after every verb that may have queued something.
        monotonic: The clock that the session was made with.

    """

    def __init__(self, channel: Channel, session: Session, monotonic: Monotonic) -> None:
        self.session = session
        self._channel = channel
        self._monotonic = monotonic
        self._inbox: list[Event] = []
        self._arrived = Signal()
        self._room = Signal()
        self._to_send = Signal()
        self._timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Have queued frames written and events delivered; call after using the session."""
        self._inbox.extend(self.session.events())
        if self._inbox:
            self._arrived.set()
        self._to_send.set()

    async def run(self, consume: Callable[[list[Event]], Awaitable[None]]) -> Closed:
        """
        Serve the connection until the session is closed.

        Args:
            consume: Gets what happened, in order, in batches of one or more; the last batch ends with Closed.

        Returns: Why it ended.

        """
        self._keep_time()
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read())
                writer = group.create_task(self._write())
                closed = await self._consume(consume)
                if closed.code is ErrorCode.SILENCE:
                    # Nobody is there to read it: the agent's jobs must not wait for that.
                    self._channel.abort()
                else:
                    await asyncio.wait([writer], timeout=FLUSH_SECONDS)
                for task in (reader, writer):
                    task.cancel()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self.session.connection_lost("the relay gave the connection up")
            await self._channel.close()
        return closed

    async def _consume(self, consume: Callable[[list[Event]], Awaitable[None]]) -> Closed:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            batch, self._inbox = self._inbox, []
            self._room.set()
            if batch:
                await consume(batch)
                self.wake()
            closed = next((event for event in batch[-1:] if isinstance(event, Closed)), None)
            if closed is not None:
                return closed
            batch.clear()  # an idle connection must not keep the last message

    async def _read(self) -> None:
        try:
            while self.session.phase is not Phase.CLOSED:
                content = await self._channel.receive()
                if content is None:
                    self.session.close(ErrorCode.MALFORMED, "frames are binary messages")
                else:
                    self.session.receive_frame(content, self._monotonic())
                self.wake()
                while len(self._inbox) >= INBOX_EVENTS:
                    self._room.clear()
                    await self._room.wait()
        except ChannelClosed as closed:
            self.session.connection_lost(closed.reason)
            self.wake()

    async def _write(self) -> None:
        try:
            while True:
                await self._to_send.wait()
                self._to_send.clear()
                # One round at a time: a control frame queued meanwhile passes before the next bulk chunk.
                while frames := self.session.data_to_send():
                    for frame in frames:
                        await self._channel.send(frame)
                if self.session.phase is Phase.CLOSED:
                    return
        except ChannelClosed:
            # The reader sees it too, and says so to the session.
            return

    def _keep_time(self) -> None:
        deadline = self.session.next_deadline()
        if deadline is not None:
            left = max(0.0, deadline - self._monotonic())
            self._timer = asyncio.get_running_loop().call_later(left, self._on_time)

    def _on_time(self) -> None:
        self.session.receive_timeout(self._monotonic())
        self.wake()
        self._keep_time()
