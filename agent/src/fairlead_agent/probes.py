"""
Probes: /healthz and /readyz over plain HTTP for the kubelet, and nothing else.

Healthy means that the event loop answers; ready means that the relay said welcome. A relay that is away makes the
agent not ready and never unhealthy: a restart would not bring it back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

REQUEST_SECONDS = 5.0
MAX_REQUEST_BYTES = 8192


@contextlib.asynccontextmanager
async def serve_probes(port: int, readiness: Callable[[], tuple[bool, str]]) -> AsyncIterator[int]:
    """
    Serve the probes while the context is open.

    Args:
        port: TCP port on all addresses; 0 serves nothing.
        readiness: Returns whether the agent is ready, and a phrase that says more.
    Yields: The port in use, 0 if there is none.
    Raises: OSError: the port is taken.
    """
    if port == 0:
        yield 0
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(REQUEST_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(request.split(b" ", 2)[1:2], readiness))
                await writer.drain()
        writer.close()

    # The kubelet dials the pod's address, whichever that is.
    server = await asyncio.start_server(answer, None, port, limit=MAX_REQUEST_BYTES)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


def _answer(path: list[bytes], readiness: Callable[[], tuple[bool, str]]) -> bytes:
    if path == [b"/healthz"]:
        status, text = "200 OK", "ok"
    elif path == [b"/readyz"]:
        ready, text = readiness()
        status = "200 OK" if ready else "503 Service Unavailable"
    else:
        status, text = "404 Not Found", "only /healthz and /readyz"
    body = f"{text}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body
