"""
The channel for networks that keep no websocket: frames in the bodies of HTTPS requests, over the same mTLS port.

Two lines, each one request after the other: one sends numbered batches, the other asks for them. A request whose
connection broke is repeated with its number, so that nothing is lost or doubled; only when that has not helped for
RETRY_SECONDS does the channel end, and the link begins another session.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import cast

from fairlead_agent.dialling import Dialler
from fairlead_agent.errors import ChannelClosed, ConnectFailed
from fairlead_agent.hop_failures import failure_of, http_reason, retry_after
from fairlead_shared.errors import FrameInvalid
from fairlead_shared.frames import MAX_FRAME_BYTES
from fairlead_shared.poll_batches import (
    MAX_BATCH_BYTES,
    POLL_PATH,
    RECEIVE_HEADER,
    SEND_HEADER,
    SESSION_HEADER,
    join_frames,
    split_frames,
)

ANSWER_SECONDS = 15.0
"""The relay holds a request for 10 s at most; longer silence means that its connection is dead."""
RETRY_SECONDS = 20.0
"""How long one request is repeated: the session calls the relay silent after 25 s."""
RETRY_PAUSE_SECONDS = 0.25
CLOSE_SECONDS = 1.0
"""For the last frames, and again for the goodbye."""
OUTBOX_BYTES = 256 * 1024
"""Frames waiting to be sent; writing waits beyond it."""
INBOX_FRAMES = 256
"""Frames waiting to be read; nothing more is asked for beyond it."""
_MAX_HEAD_BYTES = 16 * 1024
_OVER = {HTTPStatus.GONE, HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}
_BROKEN = (OSError, EOFError, asyncio.LimitOverrunError, ConnectFailed)


class Answer:
    """
    A response.

    Args:
        status: HTTP status.
        headers: By lower-case name.
        body: Whole.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class _NotedProtocol(asyncio.StreamReaderProtocol):
    """A protocol that knows its transport, also where nobody is left to be given it."""

    made: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note it."""
        self.made = cast("asyncio.Transport", transport)
        super().connection_made(transport)


class RequestLine:
    """
    One kept connection for requests, made anew when it broke.

    Args:
        dialler: Knows the way to the relay.
        context: Whom to trust and which certificate to present.
        path: What is asked.
    """

    def __init__(self, dialler: Dialler, context: ssl.SSLContext, path: str) -> None:
        self._dialler = dialler
        self._context = context
        self._path = path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """
        Ask once; the connection is dropped when anything goes wrong.

        Raises: OSError, EOFError, asyncio.LimitOverrunError, ConnectFailed: it did, on whichever hop.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = self._streams or await self._open()
                lines = [f"{method} {self._path} HTTP/1.1", f"Host: {self._dialler.address}"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                lines.append(f"Content-Length: {len(body)}")
                writer.write("\r\n".join([*lines, "", ""]).encode() + body)
                await writer.drain()
                answer = await _read_answer(reader)
                if answer.headers.get("connection", "").lower() == "close":
                    self.drop()
                return answer
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        """Cut the connection; the next request makes another."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raw = await self._dialler.connect()
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_MAX_HEAD_BYTES)
        protocol = _NotedProtocol(reader)
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol, sock=raw, ssl=self._context, server_hostname=self._dialler.host
            )
        except BaseException:
            if protocol.made is not None:
                # Cancelled as the handshake ended, asyncio would wait half a minute for the peer's goodbye.
                protocol.made.abort()
            raw.close()
            raise
        self._streams = reader, asyncio.StreamWriter(transport, protocol, reader, loop)
        return self._streams


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = head[0].partition(" ")[2].partition(" ")[0]
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    if not status.isdecimal():
        raise EOFError("what answers is no relay")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return Answer(int(status), headers, await _read_chunks(reader))
    return Answer(int(status), headers, await reader.readexactly(_size(headers.get("content-length", "0"), 10)))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    """
    Return a body that came in chunks: no relay sends one, but proxies that look into bodies do.

    Source: RFC 9112 §7.1.
    """
    body = b""
    while size := _size((await reader.readuntil(b"\r\n")).decode("latin-1").partition(";")[0].strip(), 16):
        body += await reader.readexactly(size)
        _size(str(len(body)), 10)
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # a trailer
    return body


def _size(text: str, base: int) -> int:
    """Return a size within the limit of a batch. Raises: EOFError: it is none."""
    if not text.isalnum() or not text.isascii():
        raise EOFError("what answers is no relay")
    try:
        size = int(text, base)
    except ValueError:
        raise EOFError("what answers is no relay") from None
    if size > MAX_BATCH_BYTES:
        raise EOFError(f"an answer of {size:,} bytes is none of a relay")
    return size


class LongPollChannel:
    """A channel over long-poll; open it with `open_long_poll`."""

    transport = "long-poll"

    def __init__(self, sender: RequestLine, receiver: RequestLine, session: str) -> None:
        self._sender = sender
        self._receiver = receiver
        self._session = session
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._inbox: deque[bytes] = deque()
        self._ended: ChannelClosed | None = None
        self._changed = asyncio.Condition()
        self._tasks = [
            asyncio.create_task(self._run(self._send_all), name="link/poll-send"),
            asyncio.create_task(self._run(self._receive_all), name="link/poll-receive"),
        ]

    async def send(self, frame: bytes) -> None:
        """Send one frame."""
        async with self._changed:
            self._outbox.append(frame)
            self._outbox_bytes += len(frame)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._ended or self._outbox_bytes < OUTBOX_BYTES)
            if self._ended:
                raise self._ended

    async def receive(self) -> bytes:
        """Return the next frame."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._ended or self._inbox)
            if self._inbox:
                self._changed.notify_all()
                return self._inbox.popleft()
            raise self._ended or ChannelClosed("the long-poll session is over")

    async def close(self) -> None:
        """Close it."""
        with contextlib.suppress(TimeoutError, *_BROKEN):
            async with asyncio.timeout(CLOSE_SECONDS), self._changed:
                await self._changed.wait_for(lambda: self._ended or not self._outbox_bytes)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError, *_BROKEN):
            if self._ended is None:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._sender.ask("DELETE", {SESSION_HEADER: self._session})
        self._sender.drop()
        self._receiver.drop()
        await self._end(ChannelClosed("the long-poll session was closed"))

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except ChannelClosed as closed:
            await self._end(closed)

    async def _end(self, closed: ChannelClosed) -> None:
        async with self._changed:
            self._ended = self._ended or closed
            self._changed.notify_all()

    async def _send_all(self) -> None:
        number = 1
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._outbox)
                frames = self._next_frames()
            answer = await self._persist(self._sender, {SEND_HEADER: str(number)}, join_frames(frames))
            if answer.status != HTTPStatus.NO_CONTENT:
                raise _unexpected(answer)
            number += 1
            async with self._changed:
                self._outbox_bytes -= sum(len(frame) for frame in frames)
                self._changed.notify_all()

    async def _receive_all(self) -> None:
        number = 1
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: len(self._inbox) < INBOX_FRAMES)
            answer = await self._persist(self._receiver, {RECEIVE_HEADER: str(number)})
            if answer.status != HTTPStatus.OK:
                raise _unexpected(answer)
            try:
                frames = split_frames(answer.body)
            except FrameInvalid as error:
                raise ChannelClosed(f"the relay's answer holds no frames: {error.reason}") from error
            if frames:
                number += 1
                async with self._changed:
                    self._inbox.extend(frames)
                    self._changed.notify_all()

    def _next_frames(self) -> list[bytes]:
        frames: list[bytes] = []
        room = MAX_BATCH_BYTES
        while self._outbox and len(self._outbox[0]) <= min(room, MAX_FRAME_BYTES):
            frames.append(self._outbox.popleft())
            room -= len(frames[-1]) + 4
        return frames

    async def _persist(self, line: RequestLine, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """Ask until there is an answer. Raises: ChannelClosed: there was none for RETRY_SECONDS."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + RETRY_SECONDS
        while True:
            try:
                return await line.ask("POST", {SESSION_HEADER: self._session, **headers}, body)
            except _BROKEN as error:
                if loop.time() >= ends:
                    raise ChannelClosed(f"requests are not answered ({str(error) or type(error).__name__})") from error
            await asyncio.sleep(RETRY_PAUSE_SECONDS)


def _unexpected(answer: Answer) -> ChannelClosed:
    said = http_reason(answer.status, answer.headers, answer.body)
    return ChannelClosed(said, by_relay=answer.status in _OVER)


async def open_long_poll(dialler: Dialler, context: ssl.SSLContext, path_suffix: str = "") -> LongPollChannel:
    """
    Begin a long-poll session.

    Args:
        dialler: Knows the way to the relay.
        context: Whom to trust and which certificate to present.
        path_suffix: What the messages carry, if not frames.
    Raises: ConnectFailed: names the hop.
    """
    path = POLL_PATH + path_suffix
    line = RequestLine(dialler, context, path)
    try:
        answer = await line.ask("POST", {})
    except TimeoutError:
        raise ConnectFailed("TLS", dialler.address, f"no answer within {ANSWER_SECONDS:.0f} s") from None
    except (EOFError, asyncio.LimitOverrunError) as error:
        raise ConnectFailed("upgrade", dialler.address, f"long-poll: closed without an answer ({error})") from error
    except OSError as error:
        raise failure_of([error], dialler.address) from error
    session = answer.headers.get(SESSION_HEADER.lower())
    if answer.status != HTTPStatus.OK or session is None:
        line.drop()
        said = http_reason(answer.status, answer.headers, answer.body)
        hop = "authorization" if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) else "upgrade"
        wait = retry_after(answer.headers.get("retry-after"))
        raise ConnectFailed(hop, dialler.address, f"long-poll: {said}", wait)
    dialler.passed("upgrade", "long-poll")
    return LongPollChannel(line, RequestLine(dialler, context, path), session)
