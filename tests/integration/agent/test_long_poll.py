"""Answers to long-poll requests, as proxies that look into bodies pass them on; see also relay/test_real_agent.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fairlead_agent.dialling import Dialler
from fairlead_agent.identity_store import client_context
from fairlead_agent.long_poll import RequestLine, _NotedProtocol
from fairlead_shared.poll_batches import MAX_BATCH_BYTES, POLL_PATH
from tests.integration.scripted_relay import ThrowawayCa
from tests.polling import PATIENCE_SECONDS


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[RequestLine, list[int]]]:
    """Serve these answers, one per request; yields a line to it, and the connection of each request."""
    ca = ThrowawayCa()
    left = list(answers)
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left and await reader.read(65536):
            connections.append(id(writer))
            writer.write(left.pop(0))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=ca.server_context(("127.0.0.1",)))
    async with server:
        url = f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        line = RequestLine(Dialler(url), client_context(ca.root_pem, None), POLL_PATH)
        yield line, connections
        line.drop()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"


async def test_bodies_may_come_in_chunks() -> None:
    """With extensions and trailers; the next answer on the connection is read as well."""
    body = b"3\r\nabc\r\n00A;seen=yes\r\n0123456789\r\n0\r\nScanned: yes\r\n\r\n"
    plain = b"HTTP/1.1 204 No Content\r\n\r\n"
    async with answering(CHUNKED + body, plain) as (line, connections):
        assert (await line.ask("POST", {})).body == b"abc0123456789"
        assert (await line.ask("POST", {})).status == 204
        assert len(set(connections)) == 1


async def test_a_connection_that_is_closed_after_an_answer_is_not_used_again() -> None:
    """The next request makes another, without a failure between."""
    last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    async with answering(last, last) as (line, connections):
        for _ in range(2):
            assert (await line.ask("POST", {})).body == b"ok"
        assert len(set(connections)) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-other\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BATCH_BYTES + 1),
        CHUNKED + b"zz\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"%x\r\n" % (MAX_BATCH_BYTES + 1),
        CHUNKED + b"100000\r\n" + bytes(0x100000) + b"\r\n100000\r\n" + bytes(0x100000),
    ],
)
async def test_what_is_no_answer_of_a_relay_ends_the_request(answer: bytes) -> None:
    """Before more than a batch is kept of it."""
    async with answering(answer, b"") as (line, _):
        with pytest.raises((EOFError, OSError, asyncio.LimitOverrunError)) as ended:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await line.ask("POST", {})
        assert not isinstance(ended.value, TimeoutError)


async def test_an_answer_that_breaks_off_ends_the_request() -> None:
    """Before its first chunk; of one that just does not go on, the caller's limit makes an end."""
    async with answering(CHUNKED) as (line, _), asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(EOFError):
            await line.ask("POST", {})


async def test_a_poll_that_is_cancelled_as_its_handshake_ends_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library would say goodbye and wait half a minute for the peer's, by a socket that was closed beneath it."""
    lost = asyncio.Event()
    connection_made = _NotedProtocol.connection_made

    def cancelling(self: _NotedProtocol, transport: asyncio.BaseTransport) -> None:
        connection_made(self, transport)
        asking.cancel()

    monkeypatch.setattr(_NotedProtocol, "connection_made", cancelling)
    monkeypatch.setattr(_NotedProtocol, "connection_lost", lambda self, error: lost.set())
    async with answering(b"") as (line, _):
        asking = asyncio.create_task(line.ask("POST", {}))
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(20):  # the library would take thirty
            await lost.wait()
