"""A network whose only way out is a proxy that ends TLS, squid: with both sides' leave, everything works through it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from fairlead_agent.dialling import Dialler
from fairlead_agent.doctor import Doctor
from fairlead_agent.errors import ConnectFailed
from fairlead_agent.identity_store import client_context
from fairlead_shared.enrolment import EnrolmentToken
from tests.cluster.network import OUTSIDE_ADDRESS, Network
from tests.e2e.inspected_relay import inspected_relay
from tests.e2e.inspecting_squid import PASSWORD, RELAY_HOST, InspectingSquid, inspecting_squid
from tests.e2e.shut_in import dial_inside, shut_in_network
from tests.integration.agent_under_test import POLICY, AgentUnderTest
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_address import RelayAddress
from tests.integration.relay_process import RelayProcess
from tests.polling import eventually


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Make a cluster's network without a cluster in it; it may dial the proxies alone."""
    with shut_in_network("inspection") as made:
        yield made


@pytest.fixture(scope="module")
def relay(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """Run a relay that allows inspection, on an address that the proxies reach."""
    with inspected_relay(tmp_path_factory.mktemp("relay") / "data") as running:
        yield running


@pytest.fixture(scope="module", params=[False, True], ids=["without-websockets", "with-websockets"])
def squid(request: pytest.FixtureRequest, network: Network, relay: RelayProcess) -> Iterator[InspectingSquid]:
    """Run the proxy, as it comes and as it passes websockets."""
    with inspecting_squid(relay.ca_file, bears_websockets=request.param) as running:
        network.allow(running.port)
        yield running


@pytest.fixture
async def agent(
    relay: RelayProcess, squid: InspectingSquid, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Tenant, AgentUnderTest]]:
    """Prepare an agent inside the network, not started, whose operator allows inspection."""
    dial_inside(network, monkeypatch)
    tenant = await asyncio.to_thread(make_tenant, relay)
    made = AgentUnderTest(RelayAddress(url_of(relay), tenant.enrolment_token), tmp_path)
    made.policy_file.write_text(POLICY.replace("acme", tenant.organization))
    made.https_proxy = squid.url
    made.inspected_by = squid.ca_file
    yield tenant, made
    await made.stop()


def url_of(relay: RelayProcess) -> str:
    """Return what agents inside would dial."""
    return f"wss://{RELAY_HOST}:{relay.agent_port}"


async def test_enrols_and_deploys_through_inspection_with_the_direct_way_shut(
    relay: RelayProcess, squid: InspectingSquid, agent: tuple[Tenant, AgentUnderTest], request: pytest.FixtureRequest
) -> None:
    """By polls where the proxy drops upgrades, without any configuration; the proxy sees paths, and no frame."""
    tenant, made = agent
    with pytest.raises(ConnectFailed) as shut:
        await Dialler(f"wss://{OUTSIDE_ADDRESS}:{relay.agent_port}").dial(
            client_context(relay.ca_file.read_text(), None)
        )
    assert shut.value.hop == "TCP"
    await made.start()

    async def connected() -> bool:
        assert made.link is not None
        return made.link.is_connected

    await eventually(connected, "the link")
    bundle = config_maps(20)
    await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
    job = await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle)

    async def succeeded() -> bool:
        path = f"{tenant.path}/deployments/{job['id']}"
        return bool(cast("dict[str, Any]", await tenant.ask("GET", path))["outcome"] == "succeeded")

    await eventually(succeeded, "the deployment")
    await made.stop()
    seen = squid.requests()
    base = f"https://{RELAY_HOST}:{relay.agent_port}/v1/agent"
    if "without" in request.node.name:
        assert [one for one in seen if one.startswith(f"GET {base}/inner-tls 404")], seen
        assert f"POST {base}/poll/inner-tls 200" in seen
    else:
        assert f"GET {base}/inner-tls 101" in seen, seen
        assert not [one for one in seen if "/poll/" in one]
    assert PASSWORD not in (squid.directory / "access.log").read_text()


async def test_the_doctor_recognises_inspection(
    relay: RelayProcess, squid: InspectingSquid, agent: tuple[Tenant, AgentUnderTest]
) -> None:
    """Without the operator's leave it says who presented what and what to do; with it every hop passes."""
    tenant, _ = agent
    token = EnrolmentToken.parse(tenant.enrolment_token)
    refused = Doctor(Dialler(url_of(relay), squid.url), None, token)
    await refused.examine()
    last = refused.findings[-1]
    assert (last.subject, last.passed) == ("TLS", False), refused.findings
    assert "issued by CN=throwaway root" in last.found
    assert "TLS is inspected" in last.found
    assert "FAIRLEAD_TLS_INSPECTION" in last.remedy
    allowed = Doctor(Dialler(url_of(relay), squid.url, ca_bundle_file=squid.ca_file, tls_inspection=True), None, token)
    await allowed.examine()
    assert allowed.is_well, allowed.findings
