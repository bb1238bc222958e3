"""Jobs of the real API, and health checks, which are jobs without a deployment."""

import json
import time

from fairlead_shared.jobs import JobKind
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import HealthEvent, HealthStatus
from tests.integration.conftest import Tenant
from tests.polling import eventually


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


def test_an_unknown_job_is_not_found(tenant: Tenant) -> None:
    """As everything that does not exist for the caller."""
    tenant.viewer.ask("GET", f"{tenant.path}/jobs/nothing", expect=404)
