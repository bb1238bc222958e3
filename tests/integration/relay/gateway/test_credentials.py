"""A connection's identity on a real relay: renewed, cut off, refused with the reason, and let in again."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import Heartbeat
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_process import RelayProcess
from tests.integration.scripted_agent import AgentConnection, ScriptedAgent, SessionEnded, make_request
from tests.integration.scripted_relay import ThrowawayCa
from tests.polling import PATIENCE_SECONDS, eventually

CLUSTER = "clusters/harbour"


async def ask(tenant: Tenant, path: str, body: object = None, expect: int = 200) -> Any:  # noqa: ANN401  (JSON)
    """Call the API as the admin."""
    method = "GET" if body is None else "POST"
    return await asyncio.to_thread(tenant.admin.ask, method, f"{tenant.path}/{path}", body, expect)


async def refused(agent: ScriptedAgent) -> tuple[ErrorCode, str]:
    """Connect, and return why the relay refuses it."""
    with pytest.raises(SessionEnded) as ended:
        async with agent.connect():
            pass
    return ended.value.closed.code, ended.value.closed.reason


async def refused_rejoin(
    agent: ScriptedAgent, certificate_pem: str | None = None, signer: ec.EllipticCurvePrivateKey | None = None
) -> tuple[ErrorCode, str]:
    """Rejoin, and return why the relay refuses it."""
    with pytest.raises(SessionEnded) as ended:
        await agent.rejoin(certificate_pem, signer)
    return ended.value.closed.code, ended.value.closed.reason


async def cut_off(connection: AgentConnection) -> tuple[ErrorCode, str]:
    """Wait until the relay ends a connection, and return why."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        closed = await connection.wire.wait_closed()
    return closed.code, closed.reason


async def until(moment: float) -> None:
    """Wait for a time, seconds since the epoch."""

    async def has_come() -> bool:
        return time.time() >= moment

    await eventually(has_come, "the time")


async def test_a_renewed_certificate_is_shown_once_the_agent_has_it(tenant: Tenant) -> None:
    """The connection lives on, the new pair opens the next one, and both can be used until they end."""
    agent = await tenant.enrol()
    before = await ask(tenant, "agents/harbour")
    async with agent.connect() as connection:
        renewed = await connection.renew()
        await connection.wire.send(Heartbeat(number=1))

        async def is_shown() -> bool:
            serial = (await ask(tenant, "agents/harbour"))["certificate_serial"]
            return bool(serial != before["certificate_serial"])

        await eventually(is_shown, "the renewed certificate")
    async with renewed.connect():
        pass
    async with agent.connect():
        pass


async def test_a_disabled_cluster_is_cut_off_refused_and_let_in_again(own_relay: RelayProcess) -> None:
    """Within seconds, at hello, renewal and rejoin, also after a restart; then it comes back with what it has."""
    tenant = await asyncio.to_thread(make_tenant, own_relay)
    agent = await tenant.enrol()
    async with agent.connect() as connection:
        shown = await ask(tenant, f"{CLUSTER}/disable", {})
        assert (shown["state"], shown["disabled_at"] is None) == ("disabled", False)
        code, reason = await cut_off(connection)
        assert code is ErrorCode.REVOKED
        assert "cluster 'harbour' was disabled at" in reason
    made = await ask(tenant, f"{CLUSTER}/enrolment-tokens", {}, 201)
    own_relay.kill()
    await asyncio.to_thread(own_relay.start)
    for found in (await refused(agent), await refused_rejoin(agent)):
        assert (found[0], "was disabled" in found[1]) == (ErrorCode.REVOKED, True)
    with pytest.raises(SessionEnded, match="was disabled"):
        await ScriptedAgent.enrol(agent.url, made["token"])
    assert (await ask(tenant, f"{CLUSTER}/enable", {}))["state"] == "offline"
    async with agent.connect() as connection:
        await connection.renew()


async def test_a_revoked_agent_comes_back_only_by_a_new_token(own_relay: RelayProcess) -> None:
    """Its old certificate stays worthless even then, and the token it enrolled with cannot be used again."""
    tenant = await asyncio.to_thread(make_tenant, own_relay)
    agent = await tenant.enrol()
    async with agent.connect() as connection:
        shown = await ask(tenant, "agents/harbour/revoke", {})
        assert (shown["state"], shown["revoked_at"] is None) == ("revoked", False)
        code, reason = await cut_off(connection)
        assert code is ErrorCode.REVOKED
        assert "was revoked at" in reason
    own_relay.kill()
    await asyncio.to_thread(own_relay.start)
    for found in (await refused(agent), await refused_rejoin(agent)):
        assert (found[0], "was revoked" in found[1]) == (ErrorCode.REVOKED, True)
    with pytest.raises(SessionEnded) as ended:
        await ScriptedAgent.enrol(agent.url, tenant.enrolment_token, agent.key)
    assert ended.value.closed.code is ErrorCode.TOKEN_INVALID
    await ask(tenant, f"{CLUSTER}/enable", {})
    assert (await refused(agent))[0] is ErrorCode.REVOKED
    made = await ask(tenant, f"{CLUSTER}/enrolment-tokens", {}, 201)
    again = await ScriptedAgent.enrol(agent.url, made["token"])
    async with again.connect():
        assert (await ask(tenant, CLUSTER))["state"] == "connected"
    code, reason = await refused(agent)
    assert (code, "another agent enrolled" in reason) == (ErrorCode.REVOKED, True)


async def test_an_enrolment_waits_until_its_key_is_approved(tenant: Tenant) -> None:
    """Both sides show the fingerprint; another one is not approved by mistake, and the same key gets in."""
    name = "vault"
    made = await ask(tenant, "clusters", {"name": name, "require_approval": True}, 201)
    key = ec.generate_private_key(ec.SECP256R1())
    url, token = tenant.relay.agent_url, made["enrolment"]["token"]

    async def enrol() -> ScriptedAgent:
        return await ScriptedAgent.enrol(url, token, key)

    for _ in range(2):
        with pytest.raises(SessionEnded) as ended:
            await enrol()
        assert ended.value.closed.code is ErrorCode.APPROVAL_PENDING
    shown = await ask(tenant, f"clusters/{name}")
    fingerprint = shown["approval"]["fingerprint"]
    assert shown["state"] == "unapproved"
    assert f"waits for approval: fingerprint {fingerprint}" in ended.value.closed.reason
    problem = await ask(tenant, f"clusters/{name}/approve", {"fingerprint": "SHA256:other"}, 409)
    assert fingerprint in problem["detail"]
    with pytest.raises(SessionEnded):
        await enrol()
    assert (await ask(tenant, f"clusters/{name}/approve", {"fingerprint": fingerprint}))["approval"] is None
    agent = await enrol()
    async with agent.connect():
        assert (await ask(tenant, f"clusters/{name}"))["state"] == "connected"
    await ask(tenant, f"clusters/{name}/approve", {"fingerprint": fingerprint}, 409)


async def test_a_connection_does_not_outlive_its_certificate(own_relay: RelayProcess) -> None:
    """Unless it was renewed meanwhile; afterwards the agent rejoins by proof of its key, which TLS would not take."""
    own_relay.kill()
    own_relay.environment["FAIRLEAD_RELAY_CERTIFICATE_SECONDS"] = "10"
    await asyncio.to_thread(own_relay.start)
    tenant = await asyncio.to_thread(make_tenant, own_relay)
    agent = await tenant.enrol()
    began = time.time()
    async with agent.connect() as connection:
        await until(began + 2)
        renewed = await connection.renew()
        closed = await connection.wire.wait_closed()
        assert closed.code is ErrorCode.CERTIFICATE_EXPIRED
        assert time.time() - began > 11
    back = await renewed.rejoin()
    async with back.connect():
        pass


async def test_a_proof_must_be_by_the_key_of_a_certificate_of_this_relay(tenant: Tenant) -> None:
    """Neither another key, nor a stranger's certificate, nor one whose successor was in use gets a new one."""
    agent = await tenant.enrol()
    stranger = ec.generate_private_key(ec.SECP256R1())
    assert (await refused_rejoin(agent, signer=stranger))[0] is ErrorCode.UNAUTHORIZED
    forged = ThrowawayCa().issue_agent(make_request(stranger), 3600)
    code, reason = await refused_rejoin(agent, certificate_pem=forged, signer=stranger)
    assert (code, "not from a CA" in reason) == (ErrorCode.UNAUTHORIZED, True)
    assert (await refused_rejoin(agent, certificate_pem="nonsense"))[0] is ErrorCode.UNAUTHORIZED
    again = await agent.rejoin()
    async with again.connect():
        pass
