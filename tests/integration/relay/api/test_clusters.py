"""Clusters and enrolment tokens of the real API."""

from fairlead_shared.enrolment import EnrolmentToken
from fairlead_shared.identity import key_fingerprint
from tests.integration.conftest import Tenant
from tests.integration.scripted_agent import ScriptedAgent
from tests.polling import eventually


async def test_a_cluster_is_pending_then_connected_then_offline(tenant: Tenant) -> None:
    """Each state is shown as it is, with what its agent said of itself."""
    path = f"{tenant.path}/clusters/harbour"
    shown = tenant.viewer.ask("GET", path)
    assert (shown["state"], shown["agent"]) == ("pending", None)
    agent = await tenant.enrol()
    assert tenant.viewer.ask("GET", path)["state"] == "offline"
    async with agent.connect():
        shown = tenant.viewer.ask("GET", path)
        assert shown["state"] == "connected"
        assert (shown["agent"]["version"], shown["agent"]["replica"]) == ("0.1.0", "scripted-0")
        assert shown["agent"]["sealing_key"]["fingerprint"] == key_fingerprint(agent.sealing_key.public_key())

    async def is_offline() -> bool:
        return (await tenant.ask("GET", path))["state"] == "offline"  # type: ignore[index, no-any-return]

    await eventually(is_offline, "the cluster to be offline")


async def test_a_further_token_enrols_the_same_cluster(tenant: Tenant) -> None:
    """For an agent that lost its Secret: no reinstall of anything on this side."""
    await tenant.enrol()
    made = tenant.admin.ask("POST", f"{tenant.path}/clusters/harbour/enrolment-tokens", expect=201)
    EnrolmentToken.parse(made["token"])
    assert made["agent_url"].startswith("wss://")
    again = await ScriptedAgent.enrol(tenant.relay.agent_url, made["token"])
    async with again.connect() as connection:
        assert connection.welcome.jobs == ()


def test_clusters_are_listed_by_name(tenant: Tenant) -> None:
    """And only those of the caller's organization."""
    tenant.admin.ask("POST", f"{tenant.path}/clusters", {"name": "airport"}, 201)
    listed = tenant.viewer.ask("GET", f"{tenant.path}/clusters")
    assert [item["name"] for item in listed["items"]] == ["airport", "harbour"]


def test_a_token_for_an_unknown_cluster_is_not_made(tenant: Tenant) -> None:
    """The cluster comes first."""
    tenant.admin.ask("POST", f"{tenant.path}/clusters/nothing/enrolment-tokens", expect=404)
