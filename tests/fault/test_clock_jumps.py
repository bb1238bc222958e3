"""
The relay's clock set a day ahead or back while it serves, as a wrong NTP server or a resumed machine does it.

Only the relay's process sees it (libfaketime); its monotonic clock goes on, as the kernel's does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from fairlead_relay.pki.authority import CertificateAuthority
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import HeartbeatAck
from fairlead_shared.session import HeartbeatDue, Received
from tests.cluster.debian import ensure_packages
from tests.integration.agent_pair import Pair
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_process import RelayProcess
from tests.integration.scripted_agent import AgentConnection, ScriptedAgent, SessionEnded
from tests.polling import eventually, wait_until

DAY_SECONDS = 86_400
LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


@dataclass
class ClockedRelay(RelayProcess):
    """A relay whose clock the test sets."""

    offset: Path = field(default_factory=Path)
    """File with what its clock is ahead."""

    def token(self, role: str = "admin", organization: str = "acme", expires: str = "30d") -> str:
        """Create an API token that a jump of a day does not end."""
        return super().token(role, organization, expires)

    def set_clock(self, ahead_seconds: int) -> None:
        """Set the clock, and wait until a relay that serves has noticed a jump."""
        noticed = self.log.read_text().count("clock_jumped") if self.process is not None else 0
        fresh = self.offset.with_suffix(".new")
        fresh.write_text(f"{ahead_seconds:+}\n")
        fresh.rename(self.offset)
        if self.process is not None:
            wait_until(lambda: self.log.read_text().count("clock_jumped") > noticed, "the jump to be noticed")


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[ClockedRelay]:
    """Run a relay whose clock is right at first."""
    await asyncio.to_thread(ensure_packages, ["libfaketime"])
    running = ClockedRelay(tmp_path / "data", offset=tmp_path / "offset")
    running.environment = {
        "LD_PRELOAD": LIBRARY,
        "FAKETIME_TIMESTAMP_FILE": str(running.offset),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    running.set_clock(0)
    running.data_dir.mkdir(mode=0o700)
    # As of a relay that has served for a while: to a clock that is a day back, the CA must not be of tomorrow.
    CertificateAuthority.open(running.data_dir / "pki", lambda: time.time() - 10 * DAY_SECONDS)
    try:
        await asyncio.to_thread(running.start)
        yield running
    finally:
        running.close()


async def shown(tenant: Tenant, deployment_id: object) -> tuple[str, int]:
    """Return a deployment's state and its job's attempt."""
    found: Any = await tenant.ask("GET", f"{tenant.path}/deployments/{deployment_id}")
    return found["state"], found["job"]["attempt"]


async def test_what_runs_and_what_waits_outlives_jumps_ahead_and_back(relay: ClockedRelay) -> None:
    """Deadlines of an hour pass for nobody, no connection is cut, and nothing is done twice."""
    tenant = await asyncio.to_thread(make_tenant, relay)
    bundles = [config_maps(), config_maps()]
    for bundle in bundles:
        await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
    agent = await tenant.enrol()
    async with agent.connect() as connection:
        running = await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundles[0])
        offer = await connection.wait_offer()
        await connection.accept(offer)
        waiting = await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundles[1])
        for seconds in (DAY_SECONDS, 0, -DAY_SECONDS, 0):
            await asyncio.to_thread(relay.set_clock, seconds)
            await renews(connection, offer.job_id)
            assert await shown(tenant, running["id"]) == ("running", 1)
            assert await shown(tenant, waiting["id"]) == ("queued", 1)
        await connection.finish(offer.job_id, offer.token)
        following = await connection.wait_offer()
        await connection.accept(following)
        await connection.finish(following.job_id, following.token)
    for made in (running, waiting):
        assert await shown(tenant, made["id"]) == ("succeeded", 1)


async def renews(connection: AgentConnection, job_id: str) -> None:
    """Send a heartbeat, and see that the lease is renewed."""
    wire = connection.wire
    while not wire.events.empty():
        assert isinstance(wire.events.get_nowait(), Received | HeartbeatDue)  # answers to earlier heartbeats
    wire.beat()
    await wire.flush()
    assert (await wire.wait_message(HeartbeatAck)).renewed == (job_id,)


def made_at(agent: ScriptedAgent) -> float:
    """Return when the life of an agent's certificate begins, seconds since the epoch."""
    return x509.load_pem_x509_certificate(agent.certificate_pem.encode()).not_valid_before_utc.timestamp()


async def test_an_agent_that_enrolled_while_the_clock_was_ahead_is_no_stranger_afterwards(relay: ClockedRelay) -> None:
    """It rejoins, connects and renews by the right time; what it was given before that is worthless then."""
    await asyncio.to_thread(relay.set_clock, DAY_SECONDS)
    tenant = await asyncio.to_thread(make_tenant, relay)
    first = await tenant.enrol()
    await asyncio.to_thread(relay.set_clock, 0)
    second = await first.rejoin()
    assert made_at(first) - made_at(second) > DAY_SECONDS / 2
    async with second.connect() as connection:
        third = await connection.renew()
    async with third.connect():
        pass
    fourth = await third.rejoin()
    for stale in (first, second):
        with pytest.raises(SessionEnded) as refused:
            await stale.rejoin()
        assert (refused.value.closed.code, "replaced by a newer one" in refused.value.closed.reason) == (
            ErrorCode.REVOKED,
            True,
        )
    async with fourth.connect():
        pass
    token: Any = await asyncio.to_thread(
        tenant.admin.ask, "POST", f"{tenant.path}/clusters/harbour/enrolment-tokens", {}, 201
    )
    other = await ScriptedAgent.enrol(relay.agent_url, token["token"])
    async with other.connect():
        pass
    with pytest.raises(SessionEnded, match="another agent enrolled"):
        await first.rejoin()


async def test_an_agent_rejoins_while_the_clock_is_back_and_once_it_is_right(relay: ClockedRelay) -> None:
    """Its certificate is not yet valid for the relay, and then one of yesterday; it is never called revoked."""
    tenant = await asyncio.to_thread(make_tenant, relay)
    first = await tenant.enrol()
    async with first.connect():
        pass
    await asyncio.to_thread(relay.set_clock, -DAY_SECONDS)
    second = await first.rejoin()
    async with second.connect() as connection:
        third = await connection.renew()
    await asyncio.to_thread(relay.set_clock, 0)
    fourth = await third.rejoin()
    async with fourth.connect():
        pass


async def is_served(tenant: Tenant) -> bool:
    """Whether a client takes the relay's certificate."""
    try:
        await tenant.ask("GET", "/v1/version")
    except httpx.ConnectError:
        return False
    return True


async def test_a_whole_agent_comes_back_by_itself(relay: ClockedRelay, tmp_path: Path) -> None:
    """It enrolled while the clock was ahead, and so did the relay start: the relay's own certificate is made anew."""
    pair = Pair(await asyncio.to_thread(make_tenant, relay), tmp_path)
    await asyncio.to_thread(relay.set_clock, DAY_SECONDS)
    token: Any = await asyncio.to_thread(
        pair.tenant.admin.ask, "POST", f"{pair.tenant.path}/clusters/harbour/enrolment-tokens", {}, 201
    )
    pair.agent.token_file.write_text(token["token"])
    await pair.agent.start()
    try:
        await pair.until("connected")
        await asyncio.to_thread(relay.stop)
        await asyncio.to_thread(relay.start)
        await pair.until_agent_says("is this machine's clock right?")
        await asyncio.to_thread(relay.set_clock, 0)
        await eventually(lambda: is_served(pair.tenant), "the relay to have a certificate of today")
        await pair.until("connected")
    finally:
        await pair.agent.stop()
