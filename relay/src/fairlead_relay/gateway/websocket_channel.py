"""
The channel over one websocket, on the sans-I/O protocol of the `websockets` library. A frame is a binary message.

There is no queue and no task: who wants a frame reads the connection, so that back-pressure reaches the sender by
itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from fairlead_relay.errors import ChannelClosed
from fairlead_relay.gateway.secure_stream import SecureStream
from fairlead_shared.frames import MAX_FRAME_BYTES

SUBPROTOCOL = Subprotocol("fairlead.v1")
CLOSE_SECONDS = 5.0
"""How long the peer may take to answer a close."""


class WebsocketChannel:
    """
    One websocket.

    Args:
        stream: Its connection, from which the head of the request was read.
        received: The bytes read so far: the head and what came after it.

    """

    transport = "websocket"

    def __init__(self, stream: SecureStream, received: bytes) -> None:
        self._stream = stream
        self._received = received
        self._protocol = Protocol(Side.SERVER, max_size=MAX_FRAME_BYTES)
        self._frames: Iterator[Frame] = iter(())
        self._parts: list[bytes] = []

    def accept(self) -> bool:
        """Answer the upgrade; returns whether there is a websocket now."""
        head, end, rest = self._received.partition(b"\r\n\r\n")
        self._received = b""
        # The upgrade has a protocol of its own: it keeps the request for as long as it lives.
        upgrade = ServerProtocol(subprotocols=[SUBPROTOCOL])
        upgrade.receive_data(head + end)
        request = next(iter(upgrade.events_received()), None)
        if isinstance(request, Request):
            upgrade.send_response(upgrade.accept(request))
        self._stream.write(b"".join(upgrade.data_to_send()))
        if upgrade.state is not State.OPEN:
            return False
        self._protocol.receive_data(rest)
        self._take_events()
        self._flush()
        return True

    async def send(self, frame: bytes) -> None:
        """Send one frame."""
        try:
            self._protocol.send_binary(frame)
        except InvalidState:
            raise ChannelClosed(self._why()) from None
        self._flush()
        try:
            await self._stream.drain()
        except ConnectionError as error:
            raise ChannelClosed("connection lost") from error

    async def receive(self) -> bytes | None:
        """Return the next frame."""
        while True:
            for frame in self._frames:
                if frame.opcode is Opcode.TEXT:
                    return None
                if frame.opcode not in (Opcode.BINARY, Opcode.CONT):
                    continue
                self._parts.append(bytes(frame.data))
                if frame.fin:
                    message, self._parts = b"".join(self._parts), []
                    return message
            if self._protocol.state is not State.OPEN:
                raise ChannelClosed(self._why())
            await self._receive_more()

    async def close(self) -> None:
        """Close it in due form."""
        with contextlib.suppress(InvalidState, TimeoutError):
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(1000)
            self._flush()
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._protocol.state is not State.CLOSED and not self._protocol.close_rcvd:
                    await self._receive_more()
        self._stream.close()

    def abort(self) -> None:
        """Close it at once."""
        self._stream.abort()

    async def _receive_more(self) -> None:
        content = await self._stream.read()
        if content:
            self._protocol.receive_data(content)
        else:
            self._protocol.receive_eof()
        self._take_events()
        self._flush()

    def _take_events(self) -> None:
        self._frames = iter([event for event in self._protocol.events_received() if isinstance(event, Frame)])

    def _flush(self) -> None:
        # An empty one stands for the end of the stream, which close() says in TLS's own form.
        self._stream.write(b"".join(self._protocol.data_to_send()))

    def _why(self) -> str:
        closed = self._protocol.close_rcvd
        return "connection lost" if closed is None else f"closed by the peer ({closed.code})"
