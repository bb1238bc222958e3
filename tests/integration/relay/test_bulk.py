"""Bulk beside everything else on one connection: a bundle of any size comes between nobody and an answer."""

import asyncio

from fairlead_shared.frames import HeartbeatAck
from fairlead_shared.session import Received, SessionLimits
from fairlead_shared.transfers import ChunkReceived, TransferEnded
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import Tenant
from tests.integration.scripted_agent import AgentConnection

MIB = 1024 * 1024
FETCHES = 9
"""Of a bundle of some 12 MiB: more than 100 MiB."""


async def fetch_and_beat(connection: AgentConnection, sha256: str) -> list[int]:
    """Fetch the bundle once, with a heartbeat after each MiB. Returns: Bulk bytes between each and its answer."""
    wire = connection.wire
    transfer = wire.session.fetch(sha256)
    await wire.flush()
    received = 0
    beaten_at: int | None = None
    between: list[int] = []
    async with asyncio.timeout(60):
        while not isinstance(event := await wire.events.get(), TransferEnded):
            if isinstance(event, ChunkReceived):
                received += len(event.payload)
                wire.session.grant(transfer, len(event.payload))
                if beaten_at is None and received // MIB > len(between):
                    beaten_at = received
                    wire.beat()
                await wire.flush()
            elif isinstance(event, Received) and isinstance(event.message, HeartbeatAck) and beaten_at is not None:
                between.append(received - beaten_at)
                beaten_at = None
    assert event.code is None
    return between


async def test_no_answer_waits_for_a_bulk_stream(tenant: Tenant) -> None:
    """At most what was granted and under way comes before a heartbeat's answer."""
    bundle = config_maps(12, size_bytes=MIB)
    await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
    await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle)
    agent = await tenant.enrol()
    async with agent.connect() as connection:
        offer = await connection.wait_offer()
        await connection.accept(offer)
        connection.wire.leases.clear()  # without leases an answer needs no commit, whose time is the disk's
        between: list[int] = []
        for _ in range(FETCHES):
            between += await fetch_and_beat(connection, bundle.sha256)
    assert len(between) >= 8 * FETCHES
    assert max(between) <= 2 * SessionLimits().credit_bytes
