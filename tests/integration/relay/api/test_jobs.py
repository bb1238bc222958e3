"""Jobs of the real API, and health checks, which are jobs without a deployment."""

import asyncio
import json
import time

from fairlead_shared.bundle import make_bundle
from fairlead_shared.frames import JobCancel
from fairlead_shared.jobs import JobKind
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import (
    Action,
    FieldChange,
    HealthEvent,
    HealthStatus,
    Outcome,
    PlannedEvent,
    Step,
)
from tests.integration.bundles import upload
from tests.integration.conftest import Tenant
from tests.integration.scripted_agent import step
from tests.polling import eventually

CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "shop"}}


async def test_a_health_check_asks_the_agent_and_keeps_its_answer(tenant: Tenant) -> None:
    """The agent is told which environment, without any statement; what it reports are the job's events."""
    agent = await tenant.enrol()
    made = tenant.viewer.ask("POST", f"{tenant.environment}/health-checks", expect=202)
    assert made["job_id"] == made["id"]
    async with agent.connect() as connection:
        offer = await connection.wait_offer()
        assert (offer.job_kind, offer.statement) == (JobKind.HEALTH, None)
        assert offer.environment == (tenant.organization, "shop", "staging")
        await connection.accept(offer)
        ref = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="shop", name="web")
        event = HealthEvent(
            key="health/web/Degraded/1", at=time.time(), object=ref, status=HealthStatus.DEGRADED, cause="it crashes"
        )
        await connection.report(offer.job_id, offer.token, event)
        await connection.finish(offer.job_id, offer.token)
    path = f"{tenant.path}/jobs/{made['id']}"

    async def is_done() -> bool:
        return (await tenant.ask("GET", path))["state"] == "succeeded"  # type: ignore[index, no-any-return]

    await eventually(is_done, "the health check to end")
    answer = tenant.viewer.get(f"{path}/events?follow=false", headers={"Accept": "application/x-ndjson"})
    told = [json.loads(line)["event"] for line in answer.text.splitlines()]
    assert [event["cause"] for event in told if event["type"] == "health"] == ["it crashes"]


def test_a_health_check_of_an_absent_agent_waits_and_says_so(tenant: Tenant) -> None:
    """The reason is worked out when somebody asks."""
    made = tenant.viewer.ask("POST", f"{tenant.environment}/health-checks", {"deadline_seconds": 5}, 202)
    shown = tenant.viewer.ask("GET", f"{tenant.path}/jobs/{made['id']}")
    assert (shown["state"], shown["kind"], shown["deployment_id"]) == ("queued", "health", None)
    assert shown["reason"].startswith("waits for agent")


async def test_a_plan_is_offered_with_what_it_plans_and_its_answer_is_kept(tenant: Tenant) -> None:
    """The statement is signed for a plan; what the agent says of each object are the job's events; none is deployed."""
    agent, bundle = await tenant.enrol(), make_bundle([CONFIG])
    await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
    body = {"bundle_sha256": bundle.sha256, "consents": ["recreate"], "deadline_seconds": 50}
    made = await tenant.ask("POST", f"{tenant.environment}/plans", body, 202)
    assert isinstance(made, dict)
    assert (made["kind"], made["state"], made["deployment_id"]) == ("plan", "queued", None)
    ref = ObjectRef.of(CONFIG)
    field = FieldChange(pointer="/data/a", before='"1"', after='"2"')
    async with agent.connect() as connection:
        offer = await connection.wait_offer()
        statement = connection.statement(offer)
        assert (offer.job_kind, statement.strategy, statement.consents) == (JobKind.PLAN, "plan", ("recreate",))
        await connection.accept(offer)
        assert await connection.fetch(bundle.sha256) == bundle.content
        event = PlannedEvent(key="planned/a", at=1, object=ref, action=Action.CHANGED, fields=(field,))
        await connection.report(offer.job_id, offer.token, event)
        await connection.finish(offer.job_id, offer.token)
    answer = tenant.viewer.get(
        f"{tenant.path}/jobs/{made['id']}/events?follow=false", headers={"Accept": "application/x-ndjson"}
    )
    told = [json.loads(line)["event"] for line in answer.text.splitlines()]
    (planned,) = [event for event in told if event["type"] == "planned"]
    assert planned["fields"] == [{"pointer": "/data/a", "before": '"1"', "after": '"2"', "masked": False}]
    assert tenant.viewer.ask("GET", f"{tenant.environment}/deployments")["items"] == []
    assert tenant.viewer.ask("GET", tenant.environment)["latest"] is None


def test_who_may_not_deploy_may_not_plan(tenant: Tenant) -> None:
    """A plan has the agent read the cluster with what somebody chose; it is in the audit log, as its denial is."""
    bundle = make_bundle([CONFIG])
    upload(tenant.deployer, tenant.organization, bundle)
    body = {"bundle_sha256": bundle.sha256}
    tenant.viewer.ask("POST", f"{tenant.environment}/plans", body, 403)
    tenant.deployer.ask("POST", f"{tenant.environment}/plans", {"bundle_sha256": "b" * 64}, 404)
    tenant.deployer.ask("POST", f"{tenant.environment}/plans", {**body, "deadline_seconds": 0}, 422)
    tenant.deployer.ask("POST", f"{tenant.environment}/plans", {**body, "consents": ["everything"]}, 422)
    made = tenant.deployer.ask("POST", f"{tenant.environment}/plans", body, 202)
    records = tenant.admin.ask("GET", f"{tenant.path}/audit?verb=plan.create")["items"]
    assert sorted(record["outcome"] for record in records) == ["denied", "failed", "failed", "failed", "succeeded"]
    assert made["id"] in {(record["after"] or {}).get("job") for record in records}
    (listed,) = tenant.viewer.ask("GET", f"{tenant.path}/jobs?kind=plan")["items"]
    assert listed["reason"].startswith("waits for agent")


def test_an_unknown_job_is_not_found(tenant: Tenant) -> None:
    """As everything that does not exist for the caller."""
    tenant.viewer.ask("GET", f"{tenant.path}/jobs/nothing", expect=404)


def test_jobs_are_listed_newest_first_and_filtered(tenant: Tenant) -> None:
    """In pages, by state, kind and place; a state that does not exist is refused."""
    path = f"{tenant.path}/jobs"
    checks = [tenant.viewer.ask("POST", f"{tenant.environment}/health-checks", expect=202)["id"] for _ in range(3)]
    first = tenant.viewer.ask("GET", f"{path}?limit=2")
    rest = tenant.viewer.ask("GET", f"{path}?limit=2&cursor={first['next_cursor']}")
    assert [job["id"] for job in first["items"] + rest["items"]] == checks[::-1]
    assert rest["next_cursor"] is None
    assert first["items"][0]["reason"].startswith("waits for agent")
    tenant.deployer.ask("POST", f"{path}/{checks[0]}/cancel", expect=202)
    for query, found in (
        ("state=cancelled", checks[:1]),
        ("state=cancelled&state=queued&kind=health", checks[::-1]),
        ("kind=deploy", []),
        ("cluster=harbour&application=shop&environment=staging", checks[::-1]),
        ("cluster=elsewhere", []),
    ):
        listed = tenant.viewer.ask("GET", f"{path}?{query}")
        assert [job["id"] for job in listed["items"]] == found, query
    tenant.viewer.ask("GET", f"{path}?state=asleep", expect=422)
    tenant.viewer.ask("GET", f"{path}?cursor=first", expect=422)


async def test_a_job_is_cancelled_wherever_it_is(tenant: Tenant) -> None:
    """One that waits ends at once; one that runs is asked; one that has ended conflicts."""
    waiting = tenant.deployer.ask("POST", f"{tenant.environment}/health-checks", expect=202)
    agent = await tenant.enrol()
    async with agent.connect() as connection:
        offer = await connection.wait_offer()
        await connection.accept(offer)
        await connection.report(offer.job_id, offer.token, step(Step.VERIFY))
        await connection.wire.wait_acknowledged(offer.job_id, 1)
        path = f"{tenant.path}/jobs/{waiting['id']}/cancel"
        shown = await tenant.ask("POST", path, expect=202)
        assert isinstance(shown, dict)
        assert shown["state"] == "cancelling"
        cancel = await connection.wire.wait_message(JobCancel)
        assert cancel.job_id == offer.job_id
        await connection.finish(offer.job_id, offer.token, Outcome.CANCELLED)
    await tenant.ask("POST", path, expect=409)
    await tenant.ask("POST", f"{tenant.path}/jobs/nothing/cancel", expect=404)
    await asyncio.to_thread(tenant.viewer.ask, "POST", path, None, 403)


def test_a_token_for_one_application_lists_its_jobs_alone(tenant: Tenant) -> None:
    """Asked for those of another, there are none."""
    tenant.viewer.ask("POST", f"{tenant.environment}/health-checks", expect=202)
    tenant.admin.ask("POST", f"{tenant.path}/applications", {"name": "books"}, 201)
    for application, own in (("shop", 1), ("books", 0)):
        wanted = {"name": "CI", "role": "viewer", "application": application}
        caller = tenant.relay.client(tenant.admin.ask("POST", f"{tenant.path}/tokens", wanted, 201)["token"])
        assert len(caller.ask("GET", f"{tenant.path}/jobs")["items"]) == own
        assert len(caller.ask("GET", f"{tenant.path}/jobs?application=shop")["items"]) == own
