"""The agent port's own TLS: bytes both ways, back-pressure, alerts that arrive, connections that just end."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fairlead_relay.gateway.secure_stream import SecureStream
from tests.integration.scripted_agent import make_request
from tests.integration.scripted_relay import ThrowawayCa
from tests.polling import PATIENCE_SECONDS, eventually

Serve = Callable[[SecureStream], Awaitable[None]]


@asynccontextmanager
async def served(ca: ThrowawayCa, serve: Serve) -> AsyncIterator[tuple[int, list[Exception]]]:
    """Listen; yields the port and the failures of handshakes."""
    failures: list[Exception] = []
    loop = asyncio.get_running_loop()
    context = ca.server_context(("127.0.0.1",))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0)

    async def accept() -> None:
        while True:
            accepted, _ = await loop.sock_accept(listener)
            _, stream = await loop.connect_accepted_socket(lambda: SecureStream(context), accepted)
            try:
                await stream.handshake()
                await serve(stream)
            except (ssl.SSLError, ConnectionError) as error:
                failures.append(error)
            stream.close()

    task = asyncio.create_task(accept())
    try:
        yield listener.getsockname()[1], failures
    finally:
        task.cancel()
        await asyncio.wait([task])
        listener.close()


def client(ca: ThrowawayCa, issuer: ThrowawayCa | None = None, life_seconds: float = 60) -> ssl.SSLContext:
    """Return a client's context, with a certificate if an issuer is given."""
    context = ssl.create_default_context(cadata=ca.root_pem)
    if issuer is not None:
        import tempfile

        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem + issuer.issue_agent(make_request(key), life_seconds).encode())
            file.flush()
            context.load_cert_chain(file.name)
    return context


async def found(failures: list[Exception]) -> bool:
    """Tell whether a handshake failed."""
    return bool(failures)


async def echo(stream: SecureStream) -> None:
    """Send back whatever comes, slowly enough for back-pressure to matter."""
    while content := await stream.read():
        stream.write(content)
        await stream.drain()


async def test_megabytes_come_back_unchanged() -> None:
    """Through both buffers, many records, with pauses on both sides."""
    ca = ThrowawayCa()
    content = bytes(range(256)) * 4096 * 8
    async with served(ca, echo) as (port, failures), asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client(ca, ca))
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"

        async def send() -> None:
            writer.write(content)
            await writer.drain()

        sending = asyncio.create_task(send())
        assert await reader.readexactly(len(content)) == content
        await sending
        writer.close()
        await writer.wait_closed()
    assert failures == []


@pytest.mark.parametrize(
    ("life_seconds", "alert"),
    [(60, "ALERT_DECRYPT_ERROR"), (-3600, "ALERT_CERTIFICATE_EXPIRED")],
    ids=["foreign", "expired"],
)
async def test_a_refused_certificate_is_told_why(life_seconds: float, alert: str) -> None:
    """The alert reaches the client, and the reason this side. Both roots have one name: only the signature differs."""
    ca = ThrowawayCa()
    issuer = ThrowawayCa() if life_seconds > 0 else ca
    async with served(ca, echo) as (port, failures), asyncio.timeout(PATIENCE_SECONDS):
        if life_seconds < 0:
            # From now on it issues certificates from the past.
            issuer._builder = shifted(issuer)  # type: ignore[method-assign, assignment]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client(ca, issuer, life_seconds=abs(life_seconds) / 2)
        )
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ssl.SSLError) as refused:
            await reader.read()
        assert refused.value.reason is not None
        assert refused.value.reason.endswith(alert)
        writer.transport.abort()
        await eventually(lambda: found(failures), "the failure")
    assert isinstance(failures[0], ssl.SSLCertVerificationError)


def shifted(ca: ThrowawayCa) -> Callable[..., object]:
    """Return a builder of certificates whose life ended."""
    import datetime as dt

    build = ca._builder

    def builder(*arguments: object) -> object:
        made = build(*arguments)  # type: ignore[arg-type]
        made._not_valid_before = dt.datetime.now(dt.UTC).replace(tzinfo=None) - dt.timedelta(days=2)
        made._not_valid_after = dt.datetime.now(dt.UTC).replace(tzinfo=None) - dt.timedelta(days=1)
        return made

    return builder


async def test_a_client_that_goes_away_in_the_handshake_is_noticed() -> None:
    """No task waits for ever."""
    ca = ThrowawayCa()
    async with served(ca, echo) as (port, failures), asyncio.timeout(PATIENCE_SECONDS):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01")
        writer.close()
        await writer.wait_closed()
        await eventually(lambda: found(failures), "the failure")
    assert isinstance(failures[0], ConnectionError)


async def test_what_is_no_tls_is_refused() -> None:
    """Plain HTTP, for example."""
    ca = ThrowawayCa()
    async with served(ca, echo) as (port, failures), asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n")
        await reader.read()
        writer.close()
        await eventually(lambda: found(failures), "the failure")
    assert isinstance(failures[0], ssl.SSLError)


async def test_writing_to_who_reads_nothing_waits() -> None:
    """And ends when the peer goes away."""
    ca = ThrowawayCa()
    sent = 0
    ended = asyncio.Event()

    async def pour(stream: SecureStream) -> None:
        nonlocal sent
        try:
            while True:
                stream.write(b"x" * 65536)
                sent += 65536
                await stream.drain()
        finally:
            ended.set()

    async with served(ca, pour) as (port, failures), asyncio.timeout(PATIENCE_SECONDS):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client(ca))
        before = -1

        async def stands_still() -> bool:
            nonlocal before
            same, before = sent == before, sent
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), 0.2)
            return same

        await eventually(stands_still, "the writer to wait")
        assert sent < 64 * 1024 * 1024
        writer.transport.abort()
        await ended.wait()
    assert isinstance(failures[0], ConnectionError)
