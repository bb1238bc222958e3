"""Deployments of the real API: idempotent by the client's id, shown, listed, rolled back, stopped, retried."""

import asyncio
import json
from functools import partial

from fairlead_shared.bundle import Bundle
from fairlead_shared.frames import JobCancel
from fairlead_shared.progress import Action, Outcome
from tests.integration.bundles import config_maps, deploy, deployment_id, upload
from tests.integration.conftest import Tenant
from tests.integration.scripted_agent import AgentConnection
from tests.polling import eventually


async def run_next(tenant: Tenant, connection: AgentConnection) -> None:
    """Carry out the next job as the agent, and wait until the API shows it ended."""
    offer = await connection.wait_offer()
    await connection.accept(offer)
    await connection.finish(offer.job_id, offer.token)

    async def is_shown() -> bool:
        shown = await tenant.ask("GET", f"{tenant.path}/jobs/{offer.job_id}")
        return shown["state"] == "succeeded"  # type: ignore[index, no-any-return]

    await eventually(is_shown, "the job to have succeeded")


async def deployed(tenant: Tenant, connection: AgentConnection, bundle: Bundle) -> str:
    """Deploy a bundle to its end, and return the deployment's id."""
    upload(tenant.deployer, tenant.organization, bundle)
    made = deploy(tenant.deployer, tenant.environment, bundle)
    await run_next(tenant, connection)
    return str(made["id"])


def test_the_same_request_gives_the_same_deployment_and_another_conflicts(tenant: Tenant) -> None:
    """A client whose answer was lost asks again with the same id, and nothing runs twice."""
    bundle = config_maps()
    upload(tenant.deployer, tenant.organization, bundle)
    body = {"deployment_id": deployment_id(), "bundle_sha256": bundle.sha256}
    first = tenant.deployer.ask("POST", f"{tenant.environment}/deployments", body, 202)
    second = tenant.deployer.ask("POST", f"{tenant.environment}/deployments", body, 202)
    assert first["job"]["id"] == second["job"]["id"]
    tenant.deployer.ask("POST", f"{tenant.environment}/deployments", body | {"wait_seconds": 5}, 409)
    listed = tenant.viewer.ask("GET", f"{tenant.environment}/deployments")
    assert [shown["id"] for shown in listed["items"]] == [first["id"]]


def test_a_deployment_needs_a_bundle_and_an_environment(tenant: Tenant) -> None:
    """What is missing is named."""
    bundle = config_maps()
    body = {"deployment_id": deployment_id(), "bundle_sha256": bundle.sha256}
    assert "bundle" in tenant.deployer.ask("POST", f"{tenant.environment}/deployments", body, 404)["detail"]
    upload(tenant.deployer, tenant.organization, bundle)
    elsewhere = f"{tenant.path}/applications/shop/environments/nowhere/deployments"
    assert "nowhere" in tenant.deployer.ask("POST", elsewhere, body, 404)["detail"]


def test_a_queued_deployment_is_cancelled_at_once_and_only_once(tenant: Tenant) -> None:
    """Nobody has it yet, so nobody need be asked."""
    bundle = config_maps()
    upload(tenant.deployer, tenant.organization, bundle)
    path = f"{tenant.path}/deployments/{deploy(tenant.deployer, tenant.environment, bundle)['id']}"
    assert tenant.deployer.ask("POST", f"{path}/cancel", expect=202)["state"] == "cancelled"
    tenant.deployer.ask("POST", f"{path}/cancel", expect=409)


def test_a_second_deployment_waits_for_the_first(tenant: Tenant) -> None:
    """One at a time changes an environment; the one that waits says for which."""
    bundle = config_maps()
    upload(tenant.deployer, tenant.organization, bundle)
    first = deploy(tenant.deployer, tenant.environment, bundle)
    second = deploy(tenant.deployer, tenant.environment, bundle)
    assert str(first["reason"]).startswith("waits for agent")
    assert second["state"] == "queued"


def test_the_list_is_paged_newest_first(tenant: Tenant) -> None:
    """Following next_cursor shows each once."""
    bundle = config_maps()
    upload(tenant.deployer, tenant.organization, bundle)
    made = [deploy(tenant.deployer, tenant.environment, bundle)["id"] for _ in range(5)]
    seen: list[str] = []
    cursor = ""
    while True:
        shown = tenant.viewer.ask("GET", f"{tenant.environment}/deployments?limit=2{cursor}")
        seen += [item["id"] for item in shown["items"]]
        if shown["next_cursor"] is None:
            break
        cursor = f"&cursor={shown['next_cursor']}"
    assert seen == made[::-1]
    tenant.viewer.ask("GET", f"{tenant.environment}/deployments?cursor=x", expect=422)


async def test_a_rollback_brings_the_bundle_before_back(tenant: Tenant) -> None:
    """By default to the newest other bundle that succeeded; or to the deployment that is named."""
    agent = await tenant.enrol()
    one, two = config_maps(), config_maps()
    async with agent.connect() as connection:
        first = await deployed(tenant, connection, one)
        second = await deployed(tenant, connection, two)
        body = {"deployment_id": deployment_id()}
        rollback = tenant.deployer.ask("POST", f"{tenant.environment}/rollback", body, 202)
        assert (rollback["bundle_sha256"], rollback["rollback"]) == (one.sha256, True)
        assert rollback["previous_bundle_sha256"] == two.sha256
        await run_next(tenant, connection)
        again = tenant.deployer.ask("POST", f"{tenant.environment}/rollback", body, 202)
        assert again["id"] == rollback["id"], "a repeated request must not roll back once more"
        shown = tenant.viewer.ask("GET", tenant.environment)
        assert shown["current"]["id"] == rollback["id"]
        assert shown["sealing_key"]["fingerprint"].startswith("SHA256:")
        named = {"deployment_id": deployment_id(), "to": second}
        assert tenant.deployer.ask("POST", f"{tenant.environment}/rollback", named, 202)["bundle_sha256"] == two.sha256
        await run_next(tenant, connection)
    assert first


async def test_a_failure_is_rolled_back_if_that_was_asked_for(tenant: Tenant) -> None:
    """By the relay, at once: each of the two names the other, and the agent gets a rollback like any other."""
    agent = await tenant.enrol()
    async with agent.connect() as connection:
        healthy, broken = config_maps(), config_maps()
        await deployed(tenant, connection, healthy)
        await asyncio.to_thread(upload, tenant.deployer, tenant.organization, broken)
        ask = partial(deploy, tenant.deployer, tenant.environment, broken, rollback_on_failure=True)
        made = await asyncio.to_thread(ask)
        assert (made["rollback_on_failure"], made["rolled_back_by"], made["rollback_skipped"]) == (True, None, "")
        offer = await connection.wait_offer()
        await connection.accept(offer)
        await connection.finish(offer.job_id, offer.token, Outcome.FAILED, "it crashes", {Action.CHANGED: 1})
        offer = await connection.wait_offer()
        statement = connection.statement(offer)
        assert (statement.bundle_sha256, statement.rollback) == (healthy.sha256, True)
        await connection.accept(offer)
        await connection.finish(offer.job_id, offer.token)
    shown = tenant.viewer.ask("GET", f"{tenant.path}/deployments/{made['id']}")
    assert (shown["state"], shown["rolled_back_by"]) == ("failed", statement.deployment_id)
    rollback = tenant.viewer.ask("GET", f"{tenant.path}/deployments/{statement.deployment_id}")
    assert (rollback["state"], rollback["rollback_of"], rollback["created_by"]) == (
        "succeeded", made["id"], made["created_by"]
    )  # fmt: skip
    assert tenant.viewer.ask("GET", tenant.environment)["current"]["id"] == rollback["id"]
    (record,) = tenant.admin.ask("GET", f"{tenant.path}/audit?verb=deployment.roll_back")["items"]
    assert (record["target"], record["after"]["rollback_of"]) == (f"deployment/{rollback['id']}", made["id"])


def test_there_is_nothing_to_roll_back_to_at_first(tenant: Tenant) -> None:
    """The sentence says so."""
    body = {"deployment_id": deployment_id()}
    found = tenant.deployer.ask("POST", f"{tenant.environment}/rollback", body, 409)
    assert "nothing" in found["detail"]


async def test_a_newer_deployment_supersedes_the_earlier_ones_if_asked(tenant: Tenant) -> None:
    """What waits ends at once, what runs is told, and the newer goes first; without being asked they wait."""
    bundle = config_maps()
    await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
    agent = await tenant.enrol()

    async def ask(**further: object) -> str:
        return str((await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle, **further))["id"])

    async def state(deployment: str) -> str:
        shown = await tenant.ask("GET", f"{tenant.path}/deployments/{deployment}")
        assert isinstance(shown, dict)
        return str(shown["state"])

    async with agent.connect() as connection:
        running = await ask()
        offer = await connection.wait_offer()
        await connection.accept(offer)
        waiting = await ask()
        assert (await state(running), await state(waiting)) == ("running", "queued")
        newest = await ask(on_earlier="supersede", priority=7)
        cancel = await connection.wire.wait_message(JobCancel)
        assert (cancel.job_id, cancel.superseded) == (offer.job_id, True)
        assert (await state(running), await state(waiting)) == ("cancelling", "superseded")
        await connection.finish(offer.job_id, offer.token, Outcome.SUPERSEDED)
        assert await state(running) == "superseded"
        await run_next(tenant, connection)
    assert await state(newest) == "succeeded"
    shown = await tenant.ask("GET", f"{tenant.path}/deployments/{newest}")
    assert isinstance(shown, dict)
    assert shown["job"]["priority"] == 7
    for wrong in ({"on_earlier": "ignore"}, {"priority": 101}):
        body = {"deployment_id": deployment_id(), "bundle_sha256": bundle.sha256, **wrong}
        await tenant.ask("POST", f"{tenant.environment}/deployments", body, 422)


async def test_a_deployment_that_failed_is_retried_as_it_was_signed(tenant: Tenant) -> None:
    """The agent gets the same statement under the next attempt, and the stream tells of both."""
    bundle = config_maps()
    await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
    agent = await tenant.enrol()
    made = await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle)
    path = f"{tenant.path}/deployments/{made['id']}"
    async with agent.connect() as connection:
        first = await connection.wait_offer()
        await connection.accept(first)
        await tenant.ask("POST", f"{path}/retry", expect=409)
        await connection.finish(first.job_id, first.token, Outcome.FAILED, "it did not start")
        shown = await tenant.ask("POST", f"{path}/retry", expect=202)
        assert isinstance(shown, dict)
        assert (shown["state"] in {"queued", "leased"}, shown["job"]["attempt"]) == (True, 2)
        second = await connection.wait_offer()
        assert (second.statement, second.attempt) == (first.statement, 2)
        await connection.accept(second)
        assert await connection.fetch(bundle.sha256) == bundle.content
        await connection.finish(second.job_id, second.token)
    answer = await asyncio.to_thread(tenant.viewer.get, f"{path}/events", headers={"Accept": "application/x-ndjson"})
    ends = [
        event["state"]
        for event in map(json.loads, answer.text.splitlines())
        for event in [event["event"]]
        if event["type"] == "job" and event["state"] in {"failed", "succeeded"}
    ]
    assert ends == ["failed", "succeeded"]
    await tenant.ask("POST", f"{path}/retry", expect=409)
    await tenant.ask("POST", f"{tenant.path}/deployments/nothing/retry", expect=404)
