"""A cluster whose only way out is an HTTP proxy: enrolment, session and a deployment through a real tinyproxy."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from fairlead_agent.dialling import Dialler
from fairlead_agent.errors import ConnectFailed
from fairlead_agent.identity_store import client_context
from fairlead_shared.progress import Outcome
from tests.cluster.network import OUTSIDE_ADDRESS, Network
from tests.e2e.shut_in import dial_inside, shut_in_network
from tests.e2e.tinyproxy import PASSWORD, Tinyproxy, tinyproxy
from tests.integration.agent_under_test import AgentUnderTest, bundle_of
from tests.integration.scripted_relay import ScriptedRelay
from tests.polling import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Make a cluster's network without a cluster in it; what it may dial is allowed by each test."""
    with shut_in_network("proxy") as made:
        yield made


@pytest.fixture(autouse=True)
def dialled_inside(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the agent's sockets made inside."""
    dial_inside(network, monkeypatch)


@pytest.fixture(scope="module")
def proxy(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tinyproxy]:
    """Run tinyproxy on an address that the cluster may dial; the relay's port it may not."""
    with tinyproxy(tmp_path_factory.mktemp("proxy")) as running:
        network.allow(running.port)
        yield running


@pytest.fixture
async def relay() -> AsyncIterator[ScriptedRelay]:
    """Serve a relay outside of the cluster."""
    scripted = ScriptedRelay((OUTSIDE_ADDRESS,))
    await scripted.start()
    yield scripted
    await scripted.stop()


async def test_enrols_and_deploys_through_a_proxy_with_the_direct_way_shut(
    relay: ScriptedRelay, proxy: Tinyproxy, tmp_path: Path
) -> None:
    """Every connection of the agent goes through the proxy, by CONNECT, with user and password."""
    with pytest.raises(ConnectFailed) as shut:
        await Dialler(relay.url).dial(client_context(relay.ca.root_pem, None))
    assert shut.value.hop == "TCP"
    agent = AgentUnderTest(relay, tmp_path)
    agent.https_proxy = proxy.url()
    await agent.start()
    try:
        await relay.until_connected()
        relay.deploy("job0000000000000001", bundle_of(5))
        assert (await relay.until_result("job0000000000000001")).outcome is Outcome.SUCCEEDED
    finally:
        await agent.stop()
    assert proxy.tunnels(f"{OUTSIDE_ADDRESS}:{relay.port}") >= 3  # the CA, the enrolment, the session
    assert "knots" not in proxy.log.read_text()


async def test_a_proxy_that_refuses_is_named(relay: ScriptedRelay, proxy: Tinyproxy) -> None:
    """Wrong and missing passwords, a relay that is not there, a proxy that is not there: each its own sentence."""

    async def failure(https_proxy: str, url: str = relay.url) -> ConnectFailed:
        with pytest.raises(ConnectFailed) as failed:
            await Dialler(url, https_proxy).dial(client_context(relay.ca.root_pem, None))
        assert PASSWORD not in str(failed.value)
        return failed.value

    wrong = await failure(proxy.url("wrong"))
    assert (wrong.hop, "password" in wrong.reason) == ("proxy", True), wrong
    missing = await failure(f"http://{OUTSIDE_ADDRESS}:{proxy.port}")
    assert (missing.hop, "password" in missing.reason) == ("proxy", True), missing
    nobody = await failure(proxy.url(), f"wss://{OUTSIDE_ADDRESS}:1")
    assert (nobody.hop, "cannot reach" in nobody.reason) == ("proxy", True), nobody
    absent = await failure(f"http://{OUTSIDE_ADDRESS}:1")
    assert absent.hop == "TCP", absent


async def test_no_proxy_goes_straight(relay: ScriptedRelay, proxy: Tinyproxy, network: Network) -> None:
    """Once the firewall lets the relay's port through, an excepted relay is dialled without the proxy."""
    network.allow(relay.port)
    before = proxy.log.read_text().count("CONNECT ")
    dialler = Dialler(relay.url, proxy.url(), no_proxy=f"{OUTSIDE_ADDRESS}/32")
    channel = await dialler.dial(client_context(relay.ca.root_pem, None))
    await asyncio.wait_for(channel.close(), PATIENCE_SECONDS)
    assert proxy.log.read_text().count("CONNECT ") == before
