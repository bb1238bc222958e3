"""SIGTERM in the middle of work: requests are answered, and every job goes on at the relay's next start."""

from __future__ import annotations

import asyncio
from typing import Any

from fairlead_shared.frames import GoAway, HelloJob
from fairlead_shared.progress import Step
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_process import RelayProcess
from tests.integration.scripted_agent import step


def jobs(tenant: Tenant) -> dict[str, dict[str, Any]]:
    """Return all jobs, by id."""
    return {job["id"]: job for job in tenant.viewer.ask("GET", f"{tenant.path}/jobs")["items"]}


async def test_a_drain_loses_no_job_and_no_request(own_relay: RelayProcess) -> None:
    """One job runs, one was offered and not taken, one waits behind the first; requests come all the while."""
    tenant = await asyncio.to_thread(make_tenant, own_relay)
    bundles = [config_maps(), config_maps()]
    for bundle in bundles:
        await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
    agent = await tenant.enrol()
    async with agent.connect() as connection:
        first: Any = await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundles[0])
        running = await connection.wait_offer()
        await connection.accept(running)
        last = await connection.report(running.job_id, running.token, *(step(name) for name in Step))
        await connection.wire.wait_acknowledged(running.job_id, last)
        second: Any = await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundles[1])
        check: Any = await asyncio.to_thread(
            tenant.viewer.ask, "POST", f"{tenant.environment}/health-checks", None, 202
        )
        assert (await connection.wait_offer()).job_id == check["id"]
        stopping = asyncio.create_task(asyncio.to_thread(own_relay.stop))
        await connection.wire.wait_message(GoAway)
        await connection.wire.wait_closed()
    assert await stopping == 0
    await asyncio.to_thread(own_relay.start)
    states = {job_id: job["state"] for job_id, job in (await asyncio.to_thread(jobs, tenant)).items()}
    assert states == {running.job_id: "unreachable", second["job"]["id"]: "queued", check["id"]: "queued"}
    mine = HelloJob(job_id=running.job_id, attempt=1, token=running.token, last_seq=last)
    async with agent.connect([mine]) as connection:
        again = await connection.wait_offer()
        assert (again.job_id, again.attempt) == (check["id"], 1)  # nobody had begun it
        await connection.accept(again)
        await connection.finish(again.job_id, again.token)
        await connection.finish(running.job_id, running.token)
        following = await connection.wait_offer()
        assert following.job_id == second["job"]["id"]
        await connection.accept(following)
        await connection.finish(following.job_id, following.token)
    ended = await asyncio.to_thread(jobs, tenant)
    assert {job["state"] for job in ended.values()} == {"succeeded"}
    assert first["job"]["id"] == running.job_id
    records = await asyncio.to_thread(
        tenant.viewer.get,
        f"{tenant.path}/jobs/{running.job_id}/events?follow=false",
        headers={"Accept": "application/x-ndjson"},
    )
    steps = [line for line in records.text.splitlines() if '"type":"step"' in line or '"type": "step"' in line]
    assert len(steps) == len(Step)
