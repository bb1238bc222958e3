"""The wire between session and websocket, over a real connection on this machine."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from fairlead_relay.gateway.wire import INBOX_EVENTS, Wire
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import CaAnswer, CaRequest, encode_frame
from fairlead_shared.session import Closed, Event, Received, Session, SessionLimits, Side

Consume = Callable[[Wire, list[Event]], Awaitable[None]]


async def exchange(
    consume: Consume, talk: Callable[[ClientConnection], Awaitable[None]], limits: SessionLimits | None = None
) -> Closed:
    """Serve one connection with a wire while a client talks, and return why it ended."""
    ended: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()

    async def handle(websocket: ServerConnection) -> None:
        wire = Wire(websocket, Session(Side.RELAY, time.monotonic(), limits), time.monotonic)
        ended.set_result(await wire.run(lambda batch: consume(wire, batch)))

    async with serve(handle, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", compression=None) as client, asyncio.timeout(15):
            await talk(client)
            return await ended


async def ignore(_wire: Wire, _batch: list[Event]) -> None:
    """Do nothing with what happened."""


async def test_an_answer_that_the_consumer_queues_is_written() -> None:
    """The round trip: bytes in, event, message queued, bytes out."""

    async def answer(wire: Wire, batch: list[Event]) -> None:
        if any(isinstance(event, Received) for event in batch):
            wire.session.send(CaAnswer(root_pem="pem"))

    async def talk(client: ClientConnection) -> None:
        await client.send(encode_frame(CaRequest()))
        assert b'"root_pem":"pem"' in await client.recv(decode=False)
        await client.close()

    closed = await exchange(answer, talk)
    assert closed.by_peer


async def test_the_reason_for_a_close_reaches_the_peer_before_the_connection_ends() -> None:
    """A peer's mistake is answered by an error, then the websocket is closed."""

    async def talk(client: ClientConnection) -> None:
        await client.send(b"nonsense")
        assert b'"code":"malformed"' in await client.recv(decode=False)
        await client.wait_closed()

    assert (await exchange(ignore, talk)).code is ErrorCode.MALFORMED


async def test_a_silent_peer_is_given_up_in_time() -> None:
    """The wire turns the session's deadline into time."""

    async def talk(client: ClientConnection) -> None:
        assert b'"code":"silence"' in await client.recv(decode=False)

    closed = await exchange(ignore, talk, SessionLimits(silence_seconds=0.2))
    assert closed.code is ErrorCode.SILENCE


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

    async def talk(client: ClientConnection) -> None:
        for _ in range(total):
            await client.send(encode_frame(CaRequest()))
        go_on.set()
        await client.close()

    await exchange(slow, talk)
    assert received == total
    assert largest <= INBOX_EVENTS + 2
