"""The doctor on each kind of illness: what it finds, at which hop, and that it disturbs nobody."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop
from click.testing import CliRunner

from fairlead_agent import __main__ as command
from fairlead_agent.dialling import Dialler
from fairlead_agent.doctor import Doctor
from fairlead_agent.identity_store import Identity
from fairlead_shared.enrolment import EnrolmentToken
from tests.integration.agent_under_test import AgentUnderTest
from tests.integration.conftest import Tenant
from tests.integration.relay_address import RelayAddress
from tests.integration.relay_process import RelayProcess
from tests.integration.scripted_relay import ScriptedRelay
from tests.polling import eventually


@pytest.fixture
async def enrolled(tenant: Tenant, tmp_path: Path) -> AsyncIterator[AgentUnderTest]:
    """Run an agent that is connected to a real relay."""
    agent = AgentUnderTest(RelayAddress(tenant.relay.agent_url, tenant.enrolment_token), tmp_path)
    await agent.start()

    async def connected() -> bool:
        return agent.link is not None and agent.link.is_connected

    await eventually(connected, "the link")
    yield agent
    await agent.stop()


def identity_of(agent: AgentUnderTest) -> Identity:
    """Return the agent's identity."""
    assert agent.identities is not None
    return agent.identities.current


async def hops(url: str, identity: Identity | None, token: EnrolmentToken | None = None, proxy: str = "") -> Doctor:
    """Examine."""
    doctor = Doctor(Dialler(url, proxy), identity, token)
    await doctor.examine()
    return doctor


async def test_a_well_agent_passes_every_hop_and_keeps_its_session(enrolled: AgentUnderTest, tenant: Tenant) -> None:
    """Each hop is named once, in order; the running agent is not thrown out."""
    assert enrolled.link is not None
    doctor = await hops(tenant.relay.agent_url, identity_of(enrolled))
    assert doctor.is_well, doctor.findings
    assert [finding.subject for finding in doctor.findings] == [
        "identity", "DNS", "TCP", "TLS", "upgrade", "protocol", "long-poll",
    ]  # fmt: skip
    assert "default" in doctor.findings[0].found
    assert enrolled.link.is_connected


async def test_an_agent_with_a_token_alone_is_told_whether_it_fits(tenant: Tenant) -> None:
    """The relay's root is compared with the token's fingerprint; the token is not spent."""
    token = EnrolmentToken.parse(tenant.enrolment_token)
    assert (await hops(tenant.relay.agent_url, None, token)).is_well
    other = EnrolmentToken(token.token_id, token.secret, "0" * 64)
    failed = (await hops(tenant.relay.agent_url, None, other)).findings[-1]
    assert (failed.subject, "another relay" in failed.found) == ("authorization", True), failed
    assert token.secret not in failed.line


async def test_each_hop_that_fails_is_the_last_one_named(enrolled: AgentUnderTest, tenant: Tenant) -> None:
    """With what was seen and what to do."""
    identity = identity_of(enrolled)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        unused = closed.getsockname()[1]
    port = tenant.relay.agent_port
    cases = {
        "DNS": await hops("wss://no-such-host.invalid:1", identity),
        "TCP": await hops(f"wss://127.0.0.1:{unused}", identity),
        "proxy": await hops(tenant.relay.agent_url, identity, proxy=f"http://127.0.0.1:{port}"),
        "TLS": await hops(f"wss://127.1:{port}", identity),
    }
    for hop, doctor in cases.items():
        assert not doctor.is_well
        last = doctor.findings[-1]
        assert (last.subject, bool(last.remedy)) == (hop, True), last
        assert last.line.startswith("FAIL")
    named = cases["TLS"].findings[-1].found
    assert "not valid for" in named
    assert "presented: CN=" in named


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_certificate_that_the_relay_refuses_is_named(
    relay: RelayProcess, tmp_path: Path, run: Callable[[Coroutine[None, None, Doctor]], Doctor]
) -> None:
    """The alert arrives after the handshake, whichever loop runs, and the doctor says whose certificate it is about."""

    async def examine() -> Doctor:
        elsewhere = ScriptedRelay()
        await elsewhere.start()
        agent = AgentUnderTest(elsewhere, tmp_path)
        await agent.start()
        await elsewhere.until_connected()
        foreign = identity_of(agent)
        await agent.stop()
        await elsewhere.stop()
        assert foreign.certificate is not None
        trusting = replace(foreign.certificate, root_pem=relay.ca_file.read_text())
        return await hops(relay.agent_url, replace(foreign, certificate=trusting))

    last = run(examine()).findings[-1]
    assert (last.subject, "the relay refuses this agent's certificate" in last.found) == ("TLS", True), last


def test_the_command_prints_json_and_exits_with_1(tmp_path: Path) -> None:
    """Without a cluster and with nobody listening: two findings, and no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    (tmp_path / "token").write_text(ScriptedRelay().token())
    shown = CliRunner().invoke(
        command.cli,
        ["doctor", "-o", "json", "--relay-url", f"wss://127.0.0.1:{port}", "--kubernetes-host", "127.0.0.1"],
        env={
            "FAIRLEAD_ENROLMENT_TOKEN_FILE": str(tmp_path / "token"),
            "FAIRLEAD_SERVICE_ACCOUNT_DIR": str(tmp_path),
            "FAIRLEAD_STATE_NAMESPACE": "fairlead",
        },
    )
    assert shown.exit_code == 1, shown.output
    found = json.loads(shown.stdout)
    assert found["well"] is False
    assert [hop["hop"] for hop in found["hops"] if not hop["passed"]][-1] == "TCP"
