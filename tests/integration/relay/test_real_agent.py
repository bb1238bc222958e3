"""Relay and agent, both as they are, over TLS: only the cluster behind the agent is in memory."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from fairlead_agent.transport_choice import Transport
from tests.integration.agent_under_test import AgentUnderTest
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_address import RelayAddress
from tests.integration.relay_process import RelayProcess
from tests.polling import PATIENCE_SECONDS, eventually


@dataclass
class Pair:
    """A relay with one tenant, and that tenant's agent."""

    tenant: Tenant
    agent: AgentUnderTest


@pytest.fixture(params=list(Transport))
async def pair(own_relay: RelayProcess, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """Start an agent that enrols with a real relay, over each transport."""
    tenant = await asyncio.to_thread(make_tenant, own_relay, "acme")
    address = RelayAddress(own_relay.agent_url, tenant.enrolment_token)
    agent = AgentUnderTest(address, tmp_path)
    agent.only = request.param
    await agent.start()
    yield Pair(tenant, agent)
    await agent.stop()


async def ask_for(tenant: Tenant) -> str:
    """Ask for a deployment of three objects, and return its path."""
    bundle = config_maps(3)
    await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
    made = await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle)
    return f"{tenant.path}/deployments/{made['id']}"


async def ended(tenant: Tenant, path: str) -> dict[str, Any]:
    """Wait until a deployment has ended, and return it."""

    async def look() -> dict[str, Any] | None:
        shown = cast("dict[str, Any]", await tenant.ask("GET", path))
        return shown if shown["finished_at"] else None

    found = await eventually(look, f"{path} to end")
    assert found is not None
    return found


async def test_an_agent_enrols_and_carries_out_a_deployment(pair: Pair) -> None:
    """Enrolment, statement, bundle, progress and result, each as both sides understand it."""
    path = await ask_for(pair.tenant)
    shown = await ended(pair.tenant, path)
    assert (shown["state"], shown["outcome"]) == ("succeeded", "succeeded"), shown
    environment = await pair.tenant.ask("GET", pair.tenant.environment)
    assert cast("dict[str, Any]", environment)["current"]["id"] == shown["id"]


async def test_a_relay_that_was_killed_gets_its_agent_back_by_itself(pair: Pair) -> None:
    """Nobody touches the agent: it dials again, and what was asked for meanwhile is carried out."""
    first = await ask_for(pair.tenant)
    assert (await ended(pair.tenant, first))["state"] == "succeeded"
    relay = pair.tenant.relay
    relay.kill()
    await asyncio.to_thread(relay.start)
    second = await ask_for(pair.tenant)
    shown = await ended(pair.tenant, second)
    assert (shown["state"], shown["previous_bundle_sha256"] is None) == ("succeeded", False), shown


async def test_a_namespace_that_the_operator_did_not_bind_is_refused(pair: Pair) -> None:
    """The relay signs it and the agent says no, with the code that tells why."""
    bundle = config_maps(namespace="kube-system")
    await asyncio.to_thread(upload, pair.tenant.deployer, "acme", bundle)
    made = await asyncio.to_thread(deploy, pair.tenant.deployer, pair.tenant.environment, bundle)
    shown = await ended(pair.tenant, f"{pair.tenant.path}/deployments/{made['id']}")
    assert (shown["state"], shown["code"]) == ("refused", "not_bound"), shown


async def test_a_job_goes_on_though_the_relay_is_killed_in_its_middle(pair: Pair) -> None:
    """The agent works on meanwhile; afterwards the same attempt is completed, each object written once."""
    engine = pair.agent.engine
    engine.pause_before = 1
    path = await ask_for(pair.tenant)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await engine.paused.wait()
    relay = pair.tenant.relay
    relay.kill()
    engine.go_on.set()
    await asyncio.to_thread(relay.start)
    shown = await ended(pair.tenant, path)
    assert (shown["state"], shown["job"]["attempt"], shown["counts"]) == ("succeeded", 1, {"created": 3}), shown
    assert len(engine.writes) == len(set(engine.writes)) == 3
    answer = await asyncio.to_thread(
        pair.tenant.viewer.get, f"{path}/events?follow=false", headers={"Accept": "application/x-ndjson"}
    )
    keys = [json.loads(line)["event"].get("key") for line in answer.text.splitlines()]
    reported = [key for key in keys if key]
    assert len(reported) == len(set(reported))
    assert sum(key.startswith("object/") for key in reported) == 3


async def test_a_deployment_that_failed_is_retried_and_succeeds(pair: Pair) -> None:
    """The agent lets the next attempt of the same statement pass, and barred are a third and an older one."""
    tenant, engine = pair.tenant, pair.agent.engine
    engine.fail_before = 1
    path = await ask_for(tenant)
    assert (await ended(tenant, path))["state"] == "failed"
    retried = cast("dict[str, Any]", await tenant.ask("POST", f"{path}/retry", expect=202))
    assert retried["job"]["attempt"] == 2
    shown = await ended(tenant, path)
    assert (shown["state"], shown["counts"], shown["job"]["id"]) == ("succeeded", {"created": 3}, retried["job"]["id"])
    engine.fail_before = 0
    second = await ask_for(tenant)
    assert (await ended(tenant, second))["state"] == "failed"
    assert (await ended(tenant, await ask_for(tenant)))["state"] == "succeeded"
    refused = cast("dict[str, Any]", await tenant.ask("POST", f"{second}/retry", expect=409))
    assert "came after" in refused["detail"]


async def test_an_environment_is_deleted_after_its_agent_destroyed_it(pair: Pair) -> None:
    """By a statement that says so; a bundle of nothing is not even fetched."""
    tenant = pair.tenant
    assert (await ended(tenant, await ask_for(tenant)))["state"] == "succeeded"
    plan = await asyncio.to_thread(tenant.admin.ask, "GET", f"{tenant.environment}/deletion")
    assert plan["objects"] == [f"ConfigMap shop/settings-{number}" for number in range(3)]
    confirmed = {"confirmation": plan["confirmation"]}
    job = await asyncio.to_thread(tenant.admin.ask, "DELETE", tenant.environment, confirmed, 202)
    shown = await ended(tenant, f"{tenant.path}/jobs/{job['id']}")
    assert (shown["state"], shown["kind"], shown["outcome"]) == ("succeeded", "destroy", "succeeded"), shown
    await tenant.ask("GET", tenant.environment, expect=404)
