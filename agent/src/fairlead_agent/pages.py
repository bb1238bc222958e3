"""
What the agent serves over plain HTTP: /healthz and /readyz for the kubelet, /metrics for Prometheus, nothing else.

Healthy means that the event loop answers; ready means that the relay said welcome. A relay that is away makes the
agent not ready and never unhealthy: a restart would not bring it back. The counts have a port of their own, so that a
network policy can let Prometheus in and leave the probes to the kubelet.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus

from fairlead_agent.metrics import MEDIA_TYPE

REQUEST_SECONDS = 5.0
MAX_REQUEST_BYTES = 8192
_TEXT = "text/plain; charset=utf-8"

Page = Callable[[], tuple[HTTPStatus, str, bytes]]
"""Returns status, media type and body."""


def serve_probes(port: int, readiness: Callable[[], tuple[bool, str]]) -> AbstractAsyncContextManager[int]:
    """
    Serve the probes while the context is open.

    Args:
        port: TCP port on all addresses; 0 serves nothing.
        readiness: Returns whether the agent is ready, and a phrase that says more.
    Returns: Gives the port in use, 0 if there is none. Raises OSError if the port is taken.
    """

    def ready() -> tuple[HTTPStatus, str, bytes]:
        is_ready, phrase = readiness()
        return HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, f"{phrase}\n".encode()

    return _serve(port, {"/healthz": lambda: (HTTPStatus.OK, _TEXT, b"ok\n"), "/readyz": ready})


def serve_metrics(port: int, render: Callable[[], bytes]) -> AbstractAsyncContextManager[int]:
    """
    Serve the counts while the context is open.

    Args:
        port: TCP port on all addresses; 0 serves nothing.
        render: Returns them as text.
    Returns: Gives the port in use, 0 if there is none. Raises OSError if the port is taken.
    """
    return _serve(port, {"/metrics": lambda: (HTTPStatus.OK, MEDIA_TYPE, render())})


@contextlib.asynccontextmanager
async def _serve(port: int, pages: Mapping[str, Page]) -> AsyncIterator[int]:
    if port == 0:
        yield 0
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(REQUEST_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(request, pages))
                await writer.drain()
        writer.close()

    # The kubelet dials the pod's address, whichever that is.
    server = await asyncio.start_server(answer, None, port, limit=MAX_REQUEST_BYTES)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


def _answer(request: bytes, pages: Mapping[str, Page]) -> bytes:
    target = request.split(b" ", 2)[1:2]
    page = pages.get(target[0].decode("latin-1").partition("?")[0]) if target else None
    if page is None:
        status, media_type, body = HTTPStatus.NOT_FOUND, _TEXT, f"only {' and '.join(pages)}\n".encode()
    else:
        status, media_type, body = page()
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body
