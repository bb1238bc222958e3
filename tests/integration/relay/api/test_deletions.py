"""Environments of the real API are deleted: after a plan, by a typed name, by a signed job, or by forgetting them."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from fairlead_shared.jobs import JobKind
from fairlead_shared.progress import Outcome
from fairlead_shared.statement import EMPTY_BUNDLE, Strategy
from tests.integration.bundles import config_maps, deploy, deployment_id, upload
from tests.integration.conftest import Tenant

CONFIRMED = {"confirmation": "shop/staging"}


async def ask(tenant: Tenant, method: str, path: str, body: object = None, expect: int = 200) -> dict[str, Any]:
    """Call the API as the administrator."""
    return cast("dict[str, Any]", await asyncio.to_thread(tenant.admin.ask, method, path, body, expect))


async def test_an_environment_is_destroyed_and_gone(tenant: Tenant) -> None:
    """The agent gets a statement for that alone; meanwhile nothing is deployed, and what waited is superseded."""
    agent = await tenant.enrol()
    bundle = config_maps()
    await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
    waiting = await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle)
    plan = await ask(tenant, "GET", f"{tenant.environment}/deletion")
    assert (plan["confirmation"], plan["namespaces"], plan["objects"]) == ("shop/staging", ["shop"], [])
    assert (plan["hooks"], plan["unfinished_deployments"]) == ([], [waiting["id"]])
    job = await ask(tenant, "DELETE", tenant.environment, CONFIRMED, 202)
    assert (job["kind"], job["state"]) == ("destroy", "queued")
    assert (await ask(tenant, "DELETE", tenant.environment, CONFIRMED, 202))["id"] == job["id"]
    shown = await ask(tenant, "GET", f"{tenant.path}/deployments/{waiting['id']}")
    assert shown["state"] == "superseded"
    body = {"deployment_id": deployment_id(), "bundle_sha256": bundle.sha256}
    refused = await ask(tenant, "POST", f"{tenant.environment}/deployments", body, 409)
    assert "is being deleted" in refused["detail"]
    async with agent.connect() as connection:
        offer = await connection.wait_offer()
        statement = connection.statement(offer)
        assert (offer.job_id, offer.job_kind) == (job["id"], JobKind.DESTROY)
        assert (statement.strategy, statement.bundle_sha256) == (Strategy.DESTROY, EMPTY_BUNDLE.sha256)
        assert statement.namespaces == ("shop",)
        await connection.accept(offer)
        await connection.finish(offer.job_id, offer.token, Outcome.FAILED, "the API server is away")
        await ask(tenant, "GET", tenant.environment)
        await ask(tenant, "POST", f"{tenant.path}/deployments/{job['deployment_id']}/retry", expect=202)
        again = await connection.wait_offer()
        await connection.accept(again)
        await connection.finish(again.job_id, again.token)
    await ask(tenant, "GET", tenant.environment, expect=404)
    assert (await ask(tenant, "GET", f"{tenant.path}/jobs/{again.job_id}"))["state"] == "succeeded"
    environment = {"name": "staging", "type": "staging", "cluster": "harbour", "namespace": "shop"}
    made = await ask(tenant, "POST", f"{tenant.path}/applications/shop/environments", environment, 201)
    assert made["current"] is None


async def test_a_deletion_without_hooks_is_signed_as_one(tenant: Tenant) -> None:
    """So an agent that knows no hooks refuses what it cannot promise, and the audit log says who wanted it."""
    agent = await tenant.enrol()
    without = CONFIRMED | {"hooks": False}
    job = await ask(tenant, "DELETE", tenant.environment, without, 202)
    assert (await ask(tenant, "DELETE", tenant.environment, without, 202))["id"] == job["id"]
    async with agent.connect() as connection:
        offer = await connection.wait_offer()
        statement = connection.statement(offer)
        assert (offer.job_kind, statement.strategy) == (JobKind.DESTROY, Strategy.DESTROY_WITHOUT_HOOKS)
        await connection.accept(offer)
        await connection.finish(offer.job_id, offer.token)
    await ask(tenant, "GET", tenant.environment, expect=404)
    *_, record = (await ask(tenant, "GET", f"{tenant.path}/audit?verb=environment.delete"))["items"]
    assert record["after"]["hooks"] is False


@pytest.mark.parametrize(("first", "way"), [(True, "and runs"), (False, "without running")])
def test_a_deletion_does_not_pass_for_one_of_the_other_way(tenant: Tenant, *, first: bool, way: str) -> None:
    """Who wants a backup is told that none runs, and who wants to leave out a hook that hangs that it still does."""
    made = tenant.admin.ask("DELETE", tenant.environment, CONFIRMED | {"hooks": first}, 202)
    other = CONFIRMED | {"hooks": not first}
    refused = tenant.admin.ask("DELETE", tenant.environment, other, 409)
    assert f"deployment '{made['deployment_id']}' deletes it {way} its hooks; cancel that first" in refused["detail"]
    tenant.admin.ask("POST", f"{tenant.path}/deployments/{made['deployment_id']}/cancel", expect=202)
    assert tenant.admin.ask("DELETE", tenant.environment, other, 202)["id"] != made["id"]


def test_an_environment_is_forgotten_with_its_objects_left_alone(tenant: Tenant) -> None:
    """No agent is asked; one whose deployment is under way is not forgotten."""
    bundle = config_maps()
    upload(tenant.deployer, tenant.organization, bundle)
    made = deploy(tenant.deployer, tenant.environment, bundle)
    tenant.admin.ask("DELETE", f"{tenant.environment}?orphan=true", CONFIRMED, 409)
    tenant.deployer.ask("POST", f"{tenant.path}/deployments/{made['id']}/cancel", expect=202)
    tenant.admin.ask("DELETE", f"{tenant.environment}?orphan=true", CONFIRMED, 204)
    tenant.admin.ask("GET", tenant.environment, expect=404)
    tenant.admin.ask("DELETE", tenant.environment, CONFIRMED, 404)


def test_a_deletion_must_name_what_it_deletes(tenant: Tenant) -> None:
    """And only an administrator may."""
    for body in ({"confirmation": "staging"}, {"confirmation": "shop/production"}, {}):
        tenant.admin.ask("DELETE", tenant.environment, body, 422)
    tenant.deployer.ask("DELETE", tenant.environment, CONFIRMED, 403)
    tenant.admin.ask("GET", f"{tenant.path}/applications/shop/environments/nowhere/deletion", expect=404)
    tenant.admin.ask("GET", tenant.environment)
