"""The websocket on our own TLS, with the `websockets` library as the other end."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close

from fairlead_relay.errors import ChannelClosed
from fairlead_relay.gateway import websocket_channel
from fairlead_relay.gateway.http_request import RequestReader
from fairlead_relay.gateway.secure_stream import SecureStream
from fairlead_relay.gateway.websocket_channel import SUBPROTOCOL, WebsocketChannel
from fairlead_shared.frames import MAX_FRAME_BYTES
from tests.integration.relay.gateway.agent_port import agent_port
from tests.polling import PATIENCE_SECONDS

ENDED = "ended: "


async def exchange(
    talk: Callable[[ClientConnection], Awaitable[None]], serve: Callable[[WebsocketChannel], Awaitable[None]]
) -> str:
    """Run both ends, and return how the relay's ended."""
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def handle(stream: SecureStream) -> None:
        reader = RequestReader(stream)
        found = await reader.head(10)
        assert found is not None
        channel = WebsocketChannel(stream, found[1] + reader.rest())
        assert channel.accept()
        try:
            await serve(channel)
            ended.set_result("served")
        except ChannelClosed as closed:
            ended.set_result(str(closed))
        await channel.close()

    async with asyncio.timeout(PATIENCE_SECONDS), agent_port(handle) as port:
        url = f"wss://127.0.0.1:{port.number}"
        async with connect(
            url, ssl=port.context, subprotocols=[SUBPROTOCOL], compression=None, max_size=None
        ) as websocket:
            assert websocket.subprotocol == SUBPROTOCOL
            await talk(websocket)
            return await ended


async def echo(channel: WebsocketChannel) -> None:
    """Send back what comes; a text message as the word `none`."""
    while True:
        frame = await channel.receive()
        await channel.send(b"none" if frame is None else frame)


async def test_frames_of_all_sizes_come_back() -> None:
    """Empty ones, the largest, one in fragments, and a text message that is none."""

    async def talk(websocket: ClientConnection) -> None:
        for content in (b"", b"a", b"x" * MAX_FRAME_BYTES):
            await websocket.send(content)
            assert await websocket.recv() == content
        await websocket.send([b"in ", b"three ", b"parts"])
        assert await websocket.recv() == b"in three parts"
        await websocket.send("text")
        assert await websocket.recv() == b"none"
        await (await websocket.ping())
        await websocket.close(1001)

    assert await exchange(talk, echo) == "closed by the peer (1001)"


async def test_a_close_from_this_side_is_answered() -> None:
    """In due form, within moments."""

    async def talk(websocket: ClientConnection) -> None:
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.recv()
        assert closed.value.rcvd == Close(1000, "")

    async def nothing(_channel: WebsocketChannel) -> None:
        return

    assert await exchange(talk, nothing) == "served"


async def test_a_frame_larger_than_allowed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the websocket's own code for it, before it is in memory."""
    monkeypatch.setattr(websocket_channel, "CLOSE_SECONDS", 2.0)

    async def talk(websocket: ClientConnection) -> None:
        await websocket.send(b"x" * (MAX_FRAME_BYTES + 1))
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009

    await exchange(talk, echo)


async def test_a_connection_that_just_ends_is_lost() -> None:
    """Without a close frame."""

    async def talk(websocket: ClientConnection) -> None:
        websocket.transport.abort()

    assert await exchange(talk, echo) == "connection lost"


async def test_a_request_that_is_no_websocket_is_answered() -> None:
    """The library's own refusal, with its status."""

    async def handle(stream: SecureStream) -> None:
        found = await RequestReader(stream).head(10)
        assert found is not None
        assert not WebsocketChannel(stream, found[1].replace(b"Sec-WebSocket-Version: 13", b"A: b")).accept()

    async with asyncio.timeout(PATIENCE_SECONDS), agent_port(handle) as port:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"wss://127.0.0.1:{port.number}", ssl=port.context)
        assert refused.value.response.status_code == 400
