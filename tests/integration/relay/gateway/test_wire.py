"""The wire between session and channel: what is written, read, held back and given up."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from fairlead_relay.errors import ChannelClosed
from fairlead_relay.gateway.wire import INBOX_EVENTS, Wire
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import CaAnswer, CaRequest, encode_frame
from fairlead_shared.session import Closed, Event, Received, Session, SessionLimits, Side
from tests.polling import PATIENCE_SECONDS

Consume = Callable[[Wire, list[Event]], Awaitable[None]]


class Pipe:
    """A channel in memory that holds one frame each way, as a transport with small buffers does."""

    transport = "pipe"

    def __init__(self) -> None:
        self.to_relay: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self.to_agent: asyncio.Queue[bytes] = asyncio.Queue(100)
        self.closed = asyncio.Event()
        self.aborted = False

    async def send(self, frame: bytes) -> None:
        """Send to the agent."""
        await self.to_agent.put(frame)

    async def receive(self) -> bytes | None:
        """Receive from the agent, until it closes."""
        ending = asyncio.create_task(self.closed.wait())
        getting = asyncio.create_task(self.to_relay.get())
        try:
            await asyncio.wait([ending, getting], return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                self.to_relay.task_done()
                return getting.result()
            raise ChannelClosed("the agent is gone")
        finally:
            ending.cancel()
            getting.cancel()

    async def close(self) -> None:
        """Close."""
        self.closed.set()

    def abort(self) -> None:
        """Close at once."""
        self.aborted = True
        self.closed.set()


async def exchange(
    consume: Consume, talk: Callable[[Pipe], Awaitable[None]], limits: SessionLimits | None = None
) -> Closed:
    """Drive one session with a wire while a client talks, and return why it ended."""
    pipe = Pipe()
    wire = Wire(pipe, Session(Side.RELAY, time.monotonic(), limits), time.monotonic)
    async with asyncio.timeout(PATIENCE_SECONDS):
        running = asyncio.create_task(wire.run(lambda batch: consume(wire, batch)))
        await talk(pipe)
        closed = await running
    assert pipe.aborted is (closed.code is ErrorCode.SILENCE)
    return closed


async def ignore(_wire: Wire, _batch: list[Event]) -> None:
    """Do nothing with what happened."""


async def test_an_answer_that_the_consumer_queues_is_written() -> None:
    """The round trip: bytes in, event, message queued, bytes out."""

    async def answer(wire: Wire, batch: list[Event]) -> None:
        if any(isinstance(event, Received) for event in batch):
            wire.session.send(CaAnswer(root_pem="pem"))

    async def talk(pipe: Pipe) -> None:
        await pipe.to_relay.put(encode_frame(CaRequest()))
        assert b'"root_pem":"pem"' in await pipe.to_agent.get()
        await pipe.close()

    closed = await exchange(answer, talk)
    assert closed.by_peer


async def test_the_reason_for_a_close_reaches_the_peer_before_the_connection_ends() -> None:
    """A peer's mistake is answered by an error, then the channel is closed."""

    async def talk(pipe: Pipe) -> None:
        await pipe.to_relay.put(b"nonsense")
        assert b'"code":"malformed"' in await pipe.to_agent.get()
        await pipe.closed.wait()

    assert (await exchange(ignore, talk)).code is ErrorCode.MALFORMED


async def test_what_is_no_frame_at_all_is_malformed() -> None:
    """A text message on a websocket."""

    async def talk(pipe: Pipe) -> None:
        await pipe.to_relay.put(None)
        assert b"frames are binary" in await pipe.to_agent.get()

    assert (await exchange(ignore, talk)).code is ErrorCode.MALFORMED


async def test_a_silent_peer_is_given_up_in_time() -> None:
    """The wire turns the session's deadline into time, and waits for nobody after it."""

    async def talk(pipe: Pipe) -> None:
        await pipe.closed.wait()

    closed = await exchange(ignore, talk, SessionLimits(silence_seconds=0.2))
    assert (closed.code, closed.by_peer) == (ErrorCode.SILENCE, False)


async def test_a_slow_consumer_stops_the_reading_and_loses_nothing() -> None:
    """What cannot be handled yet stays with the sender, not in the relay's memory."""
    total = INBOX_EVENTS * 6
    go_on = asyncio.Event()
    largest = received = 0

    async def slow(wire: Wire, batch: list[Event]) -> None:
        nonlocal largest, received
        await go_on.wait()
        largest = max(largest, len(batch), len(wire._inbox))
        received += sum(isinstance(event, Received) for event in batch)

    async def talk(pipe: Pipe) -> None:
        for number in range(total):
            for _ in range(100):  # turns of the loop, of which the wire needs a few to make room
                if not pipe.to_relay.full():
                    break
                await asyncio.sleep(0)
            else:
                assert number > INBOX_EVENTS
                go_on.set()
            await pipe.to_relay.put(encode_frame(CaRequest()))
        assert go_on.is_set()
        await pipe.to_relay.join()
        await pipe.close()

    await exchange(slow, talk)
    assert received == total
    assert largest <= INBOX_EVENTS + 2
