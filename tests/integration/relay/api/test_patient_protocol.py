"""Clients that send too much, too slowly or nothing: answered and cut off, and nobody else notices."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from fairlead_relay.api import patient_protocol
from fairlead_relay.api.server import ApiServer
from tests.integration.relay_process import RelayProcess
from tests.polling import PATIENCE_SECONDS


def connect(relay: RelayProcess) -> ssl.SSLSocket:
    """Connect to the API as a client that does not keep the rules."""
    context = ssl.create_default_context(cafile=str(relay.ca_file))
    plain = socket.create_connection(("127.0.0.1", relay.api_port), timeout=PATIENCE_SECONDS)
    return context.wrap_socket(plain, server_hostname="localhost")


def resident_kib(relay: RelayProcess) -> int:
    """Return how much memory a relay has in use."""
    assert relay.process is not None
    status = Path(f"/proc/{relay.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


def read_all(client: socket.socket) -> bytes:
    """Read what comes until the other side closes."""
    received = bytearray()
    try:
        while piece := client.recv(65536):
            received += piece
    except ConnectionError:
        pass
    return bytes(received)


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nX-Large: ", b"GET /" + b"x" * 100], ids=["field", "path"])
def test_a_head_of_10_mb_is_refused_and_not_kept(relay: RelayProcess, start: bytes) -> None:
    """Its client is answered at 64 KiB; what it goes on to send is thrown away."""
    before = resident_kib(relay)
    for _ in range(5):
        with connect(relay) as client:
            try:
                client.sendall(start + b"x" * 70_000)
                assert client.recv(1000).startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
                client.sendall(b"x" * 10_000_000)
            except OSError:
                pass  # it was cut off while it sent
    assert resident_kib(relay) - before < 20_000
    relay.client().ask("GET", "/v1/version")


def test_a_head_of_too_many_fields_is_refused(relay: RelayProcess) -> None:
    """Each of them is small."""
    with connect(relay) as client:
        client.sendall(b"GET /v1/version HTTP/1.1\r\n" + b"X-Field: value\r\n" * 5000)
        assert read_all(client).startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


def test_a_head_within_the_bound_passes_and_so_do_two_in_one_piece(relay: RelayProcess) -> None:
    """The bound is for one request, not for a connection."""
    with connect(relay) as client:
        padding = b"X-Field: " + b"v" * 30_000 + b"\r\n"
        one = b"GET /v1/version HTTP/1.1\r\nHost: x\r\n" + padding
        client.sendall((one + b"\r\n") * 3 + one + b"Connection: close\r\n\r\n")
        assert read_all(client).count(b"HTTP/1.1 200 OK") == 4


async def started(app: object) -> tuple[ApiServer, socket.socket]:
    """Serve an application on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = ApiServer(app, None)  # type: ignore[arg-type]  # any callable, as tests have them
    await server.start(listener)
    return server, listener


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    """Read a body, then answer."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf"], ids=["nothing", "head", "body"]
)
async def test_a_client_that_goes_silent_is_cut_off(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    """It would hold a connection, and what a request takes, for ever."""
    monkeypatch.setattr(patient_protocol, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(patient_protocol, "BODY_SECONDS", 0.3)
    server, listener = await started(echo)
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(sent)
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await reader.read()).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    writer.close()
    await server.stop()
    listener.close()


async def test_a_client_that_sends_slowly_but_steadily_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poor line is no attack; and a kept connection may be idle between requests."""
    is_called = asyncio.Event()

    async def noted(scope: Scope, receive: Receive, send: Send) -> None:
        is_called.set()
        await echo(scope, receive, send)

    monkeypatch.setattr(patient_protocol, "HEAD_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(patient_protocol, "BODY_SECONDS", 3.0)
    server, listener = await started(noted)
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(b"POST / HTTP/1.1\r\nContent-Length: 8\r\n\r\n")
    await is_called.wait()
    # What comes next gives it this much more; without that, the three seconds go on.
    monkeypatch.setattr(patient_protocol, "BODY_SECONDS", PATIENCE_SECONDS)
    writer.write(b"slow")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 3.5)
    monkeypatch.setattr(patient_protocol, "HEAD_SECONDS", 0.2)
    writer.write(b"body")
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.8)
    monkeypatch.setattr(patient_protocol, "HEAD_SECONDS", PATIENCE_SECONDS)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    writer.close()
    await server.stop()
    listener.close()
