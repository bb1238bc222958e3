"""Dialling through a proxy that is itself reached over TLS, with a root of its own, and giving up in between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection

from fairlead_agent.dialling import Dialler
from fairlead_agent.errors import ConnectFailed
from fairlead_agent.identity_store import client_context
from tests.integration.scripted_relay import ScriptedRelay, ThrowawayCa
from tests.polling import PATIENCE_SECONDS


@asynccontextmanager
async def tls_proxy(ca: ThrowawayCa) -> AsyncIterator[int]:
    """Run a proxy that makes tunnels, over TLS; yields its port."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while content := await reader.read(65536):
            writer.write(content)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readuntil(b"\r\n\r\n")).split(b" ")
        assert asked[0] == b"CONNECT"
        host, _, port = asked[1].decode().rpartition(":")
        relay_reader, relay_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(carry(reader, relay_writer), carry(relay_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=ca.server_context(("127.0.0.1",)))
    async with server:
        yield server.sockets[0].getsockname()[1]


async def dial_through(directory: Path) -> None:
    """Enrol nobody: dial, exchange nothing, close; then without the proxy's root."""
    ca, relay = ThrowawayCa(), ScriptedRelay()
    await relay.start()
    bundle = directory / "roots.pem"
    bundle.write_text(ca.root_pem)
    trust = client_context(relay.ca.root_pem, None)
    async with tls_proxy(ca) as port, asyncio.timeout(PATIENCE_SECONDS):
        url = f"https://127.0.0.1:{port}"
        hops: list[str] = []
        dialler = Dialler(relay.url, url, ca_bundle_file=bundle, passed=lambda hop, _: hops.append(hop))
        channel = await dialler.dial(trust)
        await channel.send(b'{"kind":"ca_request"}')
        assert relay.ca.root_pem.splitlines()[1].encode() in await channel.receive()
        await channel.close()
        assert hops == ["DNS", "TCP", "proxy", "TLS", "upgrade"]
        with pytest.raises(ConnectFailed) as failed:
            await Dialler(relay.url, url).dial(trust)
        assert (failed.value.hop, "not accepted" in failed.value.reason) == ("proxy", True), failed.value
    await relay.stop()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_proxy_over_tls_with_a_root_of_its_own(tmp_path: Path, run: object) -> None:
    """Under both loops: TLS to the proxy by the extra roots, TLS to the relay by its pinned one, inside of it."""
    assert callable(run)
    run(dial_through(tmp_path))


async def test_a_dial_that_is_cancelled_as_its_handshake_ends_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library would say goodbye and wait half a minute for the peer's, by a socket that was closed beneath it."""
    lost = asyncio.Event()
    monkeypatch.setattr(ClientConnection, "connection_lost", lambda self, error: lost.set())
    relay = ScriptedRelay()
    await relay.start()

    def cancelling(hop: str, _: str) -> None:
        if hop == "TLS":
            dialling.cancel()

    dialler = Dialler(relay.url, passed=cancelling)
    dialling = asyncio.create_task(dialler.dial(client_context(relay.ca.root_pem, None)))
    with pytest.raises(asyncio.CancelledError):
        await dialling
    async with asyncio.timeout(20):  # the library would take thirty
        await lost.wait()
    await relay.stop()
