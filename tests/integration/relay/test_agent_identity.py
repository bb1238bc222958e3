"""The life of an identity, with relay and agent both as they are: absence, cutting off, approval."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fairlead_agent.dialling import Dialler
from fairlead_agent.doctor import Doctor
from fairlead_agent.identity_store import SECRET_NAME
from fairlead_agent.ports import StateKind
from fairlead_agent.transport_choice import Transport
from fairlead_shared.identity import identity_fingerprint, public_key_sha256
from tests.integration.agent_pair import Pair
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_process import RelayProcess
from tests.polling import PATIENCE_SECONDS, eventually


@pytest.fixture
async def pairs() -> AsyncIterator[list[Pair]]:
    """Stop the agents of a test at its end."""
    made: list[Pair] = []
    yield made
    for pair in made:
        await pair.agent.stop()


@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize("behind_seconds", [0, 3600], ids=["knows", "learns-from-tls"])
async def test_an_agent_that_was_away_for_longer_than_its_certificate_comes_back(
    own_relay: RelayProcess, tmp_path: Path, pairs: list[Pair], behind_seconds: float, transport: Transport
) -> None:
    """Whether it knows that its certificate ended, or its clock is behind and the handshake turns it away."""
    own_relay.kill()
    own_relay.environment["FAIRLEAD_RELAY_CERTIFICATE_SECONDS"] = "4"
    await asyncio.to_thread(own_relay.start)
    pair = Pair(await asyncio.to_thread(make_tenant, own_relay), tmp_path)
    pair.agent.only = transport
    pairs.append(pair)
    await pair.agent.start()
    await pair.until("connected")
    await pair.agent.stop()
    ended = time.time() + 5

    async def is_over() -> bool:
        return time.time() > ended

    await eventually(is_over, "the certificate to end")
    pair.agent.token_file.unlink()
    pair.agent.clock = lambda: time.time() - behind_seconds
    await pair.agent.start()
    await pair.until("connected")


@pytest.mark.parametrize("transport", list(Transport))
async def test_a_disabled_agents_job_goes_on_when_it_is_enabled(
    tenant: Tenant, tmp_path: Path, pairs: list[Pair], transport: Transport
) -> None:
    """The agent says why it is away, works on meanwhile, and nothing is done twice."""
    pair = Pair(tenant, tmp_path)
    pair.agent.only = transport
    pairs.append(pair)
    await pair.agent.start()
    await pair.until("connected")
    pair.agent.engine.pause_before = 1
    bundle = config_maps(3)
    await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
    made = await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await pair.agent.engine.paused.wait()
    await pair.ask("clusters/harbour/disable", {})
    assert "was disabled at" in await pair.until_agent_says("authorization")
    pair.agent.engine.go_on.set()
    await pair.ask("clusters/harbour/enable", {})
    await pair.until("connected")

    async def ended() -> dict[str, Any] | None:
        shown = await pair.ask(f"deployments/{made['id']}")
        return shown if shown["finished_at"] else None

    found = await eventually(ended, "the deployment to end")
    assert found is not None
    assert (found["state"], found["job"]["attempt"], found["counts"]) == ("succeeded", 1, {"created": 3})


@pytest.mark.parametrize("transport", list(Transport))
async def test_a_revoked_agent_comes_back_by_a_new_token_alone(
    tenant: Tenant, tmp_path: Path, pairs: list[Pair], transport: Transport
) -> None:
    """Put into the file it watches, without a restart; it makes a new key and keeps its sealing key."""
    pair = Pair(tenant, tmp_path)
    pair.agent.only = transport
    pairs.append(pair)
    await pair.agent.start()
    before = await pair.until("connected")
    await pair.ask("agents/harbour/revoke", {})
    await pair.until_agent_says("was revoked at")
    assert pair.agent.identities is not None
    doctor = Doctor(Dialler(tenant.relay.agent_url), pair.agent.identities.current, None)
    await doctor.examine()
    assert [(found.subject, found.passed) for found in doctor.findings][-1] == ("authorization", False)
    assert "was revoked at" in doctor.findings[-1].found
    again = await asyncio.to_thread(
        tenant.admin.ask, "POST", f"{tenant.path}/clusters/harbour/enrolment-tokens", {}, 201
    )
    pair.agent.token_file.write_text(again["token"])
    after = await pair.until("connected")
    assert after["agent"]["sealing_key"] == before["agent"]["sealing_key"]
    assert "next.key" not in pair.agent.state.objects[StateKind.SECRET, SECRET_NAME]["data"]


async def test_an_agent_waits_for_approval_and_both_sides_show_its_fingerprint(
    tenant: Tenant, tmp_path: Path, pairs: list[Pair]
) -> None:
    """What the agent says in its cluster is what the person gives to the relay."""
    body = {"name": "vault", "require_approval": True}
    made = await asyncio.to_thread(tenant.admin.ask, "POST", f"{tenant.path}/clusters", body, 201)
    pair = Pair(tenant, tmp_path, "vault", made["enrolment"]["token"])
    pairs.append(pair)
    await pair.agent.start()
    said = await pair.until_agent_says("waits for approval: fingerprint SHA256:")
    assert pair.agent.identities is not None
    key = pair.agent.identities.current.enrolment_key.public_key()
    fingerprint = identity_fingerprint(public_key_sha256(key))
    assert fingerprint in said
    assert (await pair.until("unapproved"))["approval"]["fingerprint"] == fingerprint
    await pair.ask("clusters/vault/approve", {"fingerprint": fingerprint})
    await pair.until("connected")
