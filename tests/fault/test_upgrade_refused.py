"""A network that bears no websockets: enrolment and rejoin find their way over long-poll, unconfigured."""

import asyncio
import ssl
from pathlib import Path

import pytest

from tests.fault.middlebox import Refusal, middlebox
from tests.integration.agent_under_test import AgentUnderTest
from tests.integration.conftest import make_tenant
from tests.integration.relay_address import RelayAddress
from tests.integration.relay_process import RelayProcess
from tests.polling import eventually


async def certificate_of(agent: AgentUnderTest, besides: str = "") -> str:
    """Wait until the agent holds a certificate, another one than `besides`, and return it."""

    async def look() -> str:
        held = None if agent.identities is None else agent.identities.current.certificate
        return "" if held is None or held.chain_pem == besides else held.chain_pem

    found = await eventually(look, "a certificate")
    assert found
    return found


@pytest.mark.parametrize(
    "refusal", [one for one in Refusal if one is not Refusal.NEVER], ids=lambda refusal: refusal.name.lower()
)
async def test_enrols_and_rejoins_where_upgrades_are_refused_or_cut(
    own_relay: RelayProcess, tmp_path: Path, refusal: Refusal
) -> None:
    """Each begins with websockets that come to nothing, and ends with a certificate by polls."""
    tenant = await asyncio.to_thread(make_tenant, own_relay)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own_relay.data_dir / "server.pem")
    async with middlebox(own_relay.agent_port, context, refusal) as box:
        agent = AgentUnderTest(RelayAddress(box.url, tenant.enrolment_token), tmp_path)
        await agent.start()
        try:
            # The session, which shows this certificate, cannot pass the box: the agent then asks why, by a rejoin.
            first = await certificate_of(agent)
            assert box.refused >= 3
            assert box.passed >= 2
            agent.token_file.unlink()
            await certificate_of(agent, besides=first)
        finally:
            await agent.stop()
