"""A thousand clients that follow a stream on which nothing happens: bounded memory, and everybody else is served."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from tests.fault.scale import scaled
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import make_tenant
from tests.integration.relay_process import RelayProcess

CLIENTS = scaled(200, 1000)
KIB_PER_CLIENT = 200
"""Of the relay's memory; 69 KiB were measured with a thousand."""
SECONDS = 120.0


def resident_kib(relay: RelayProcess) -> int:
    """Return how much memory a relay has in use."""
    assert relay.process is not None
    status = Path(f"/proc/{relay.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


async def test_idle_streams_cost_little_and_hear_what_happens_then(own_relay: RelayProcess) -> None:
    """All of them get the same record, once."""
    tenant = await asyncio.to_thread(make_tenant, own_relay)
    token = tenant.viewer.headers["Authorization"]
    context = ssl.create_default_context(cafile=str(own_relay.ca_file))
    before = resident_kib(own_relay)
    places = asyncio.Semaphore(20)

    async def follow() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with places:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", own_relay.api_port, ssl=context, server_hostname="localhost"
            )
            head = f"GET {tenant.path}/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\r\n"
            writer.write(head.encode())
            await reader.readuntil(b": connected\n\n")
            return reader, writer

    async with asyncio.timeout(SECONDS):
        streams = await asyncio.gather(*(follow() for _ in range(CLIENTS)))
        grown = resident_kib(own_relay) - before
        assert grown / CLIENTS < KIB_PER_CLIENT, f"{grown / CLIENTS:.0f} KiB for each of {CLIENTS} idle streams"
        await tenant.ask("GET", tenant.path)
        bundle = config_maps()
        await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
        await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle)
        heard = await asyncio.gather(*(reader.readuntil(b'"state":"queued"') for reader, _ in streams))
        assert all(text.count(b"data: ") == 1 for text in heard)
        assert await asyncio.to_thread(own_relay.stop) == 0
    for _, writer in streams:
        writer.close()
