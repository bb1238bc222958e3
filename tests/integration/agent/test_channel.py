"""The websocket channel: frames both ways, and how its end is told."""

import asyncio

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from fairlead_agent.channel import WebsocketChannel
from fairlead_agent.errors import ChannelClosed
from tests.polling import PATIENCE_SECONDS


async def say(first: bytes | str, websocket: ServerConnection) -> None:
    """Send one message, wait for one, then close in due form or, after b"cut", without a word."""
    await websocket.send(first)
    if await websocket.recv() == b"cut":
        websocket.transport.abort()
    else:
        await websocket.close(1001, "restarts")


async def opened(first: bytes | str, answer: bytes) -> ChannelClosed:
    """Run one exchange and return how the channel ended."""
    async with serve(lambda websocket: say(first, websocket), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        channel = WebsocketChannel(await connect(f"ws://127.0.0.1:{port}"))
        try:
            if isinstance(first, bytes):
                assert await channel.receive() == first
                await channel.send(answer)
            with pytest.raises(ChannelClosed) as ended:
                await channel.receive()
        finally:
            await channel.close()
        with pytest.raises(ChannelClosed):
            await channel.send(b"more")
        return ended.value


async def test_a_close_in_due_form_is_told_from_a_cut() -> None:
    """The first is the relay's will; the second may be somebody on the way."""
    asked = await opened(b"frame", b"bye")
    assert asked.by_relay
    assert "1001: restarts" in asked.reason
    assert not (await opened(b"frame", b"cut")).by_relay


async def test_a_text_message_ends_the_channel() -> None:
    """Frames are binary."""
    assert "text" in (await opened("text", b"x")).reason


async def test_a_peer_that_reads_no_more_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport then takes no more bytes, and the library would wait for it to."""
    monkeypatch.setattr("fairlead_agent.channel.LONGEST_CLOSE_SECONDS", 0.3)
    ends = asyncio.Event()

    async def read_nothing(websocket: ServerConnection) -> None:
        websocket.transport.pause_reading()
        await ends.wait()

    async with serve(read_nothing, "127.0.0.1", 0, close_timeout=0.5) as server:
        port = server.sockets[0].getsockname()[1]
        patient = await connect(f"ws://127.0.0.1:{port}", compression=None, close_timeout=None, ping_interval=None)
        channel = WebsocketChannel(patient)

        async def fill() -> None:
            while True:
                await channel.send(bytes(1 << 20))

        filling = asyncio.create_task(fill())
        await asyncio.wait([filling], timeout=1)
        filling.cancel()
        await asyncio.wait([filling])
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await channel.close()
        finally:
            ends.set()
