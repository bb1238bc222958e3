"""Agents of the real API: listed, shown, and revoked by administrators only."""

from __future__ import annotations

from tests.integration.conftest import Tenant


async def test_agents_are_listed_and_shown_with_their_cluster(tenant: Tenant) -> None:
    """Once they have enrolled; a cluster without an agent is none."""
    tenant.admin.ask("POST", f"{tenant.path}/clusters", {"name": "airport"}, 201)
    assert tenant.viewer.ask("GET", f"{tenant.path}/agents")["items"] == []
    assert "harbour" in tenant.viewer.ask("GET", f"{tenant.path}/agents/harbour", expect=404)["detail"]
    agent = await tenant.enrol()
    async with agent.connect():
        (shown,) = tenant.viewer.ask("GET", f"{tenant.path}/agents")["items"]
        assert (shown["cluster"], shown["state"], shown["replica"]) == ("harbour", "connected", "scripted-0")
        assert shown == tenant.viewer.ask("GET", f"{tenant.path}/agents/harbour") | {
            "last_seen_at": shown["last_seen_at"]
        }


async def test_only_an_administrator_cuts_off(tenant: Tenant) -> None:
    """Whoever deploys may not."""
    await tenant.enrol()
    for path in ("agents/harbour/revoke", "clusters/harbour/disable", "clusters/harbour/enable"):
        tenant.deployer.ask("POST", f"{tenant.path}/{path}", {}, 403)
    tenant.deployer.ask("POST", f"{tenant.path}/clusters/harbour/approve", {"fingerprint": "x"}, 403)
    tenant.admin.ask("POST", f"{tenant.path}/agents/nowhere/revoke", {}, 404)
    assert tenant.admin.ask("POST", f"{tenant.path}/agents/harbour/revoke", {})["state"] == "revoked"
    assert tenant.viewer.ask("GET", f"{tenant.path}/clusters/harbour")["state"] == "revoked"
