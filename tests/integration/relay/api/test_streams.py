"""Live streams of the real API: resumed without loss, ended by the final state, in two forms."""

import asyncio
import json
from collections.abc import Iterator

import httpx
import pytest

from fairlead_shared.progress import Step
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_process import RelayProcess
from tests.integration.scripted_agent import step


def sse(response: httpx.Response) -> Iterator[tuple[str, str, str]]:
    """Yield (event name, id, data) of a stream of Server-Sent Events."""
    name, position, data = "message", "", ""
    for line in response.iter_lines():
        if not line:
            if data:
                yield name, position, data
            name, position, data = "message", "", ""
        elif line.startswith("event: "):
            name = line[7:]
        elif line.startswith("id: "):
            position = line[4:]
        elif line.startswith("data: "):
            data = line[6:]


def read_all(tenant: Tenant, path: str, last_event_id: str = "") -> list[tuple[str, str, str]]:
    """Read a stream until it ends by itself."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
    with tenant.viewer.stream("GET", path, headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(sse(response))


def started(tenant: Tenant) -> str:
    """Ask for a deployment, and return its path."""
    bundle = config_maps()
    upload(tenant.deployer, tenant.organization, bundle)
    return f"{tenant.path}/deployments/{deploy(tenant.deployer, tenant.environment, bundle)['id']}"


async def test_a_stream_follows_a_deployment_to_its_end_and_can_be_resumed(tenant: Tenant) -> None:
    """Whoever listens from the start, and whoever comes back in the middle, see the same story, each record once."""
    agent = await tenant.enrol()
    path = await asyncio.to_thread(started, tenant)
    listening = asyncio.create_task(asyncio.to_thread(read_all, tenant, f"{path}/events"))
    async with agent.connect() as connection:
        offer = await connection.wait_offer()
        await connection.accept(offer)
        await connection.report(offer.job_id, offer.token, *(step(name) for name in Step))
        await connection.finish(offer.job_id, offer.token)
        heard = await listening
    *records, last = heard
    assert last[0] == "end"
    positions = [int(position) for _, position, _ in records]
    assert positions == sorted(set(positions))
    states = [json.loads(data)["event"].get("state") for _, _, data in records]
    assert [state for state in states if state] == ["queued", "leased", "running", "succeeded"]
    middle = records[3][1]
    resumed = await asyncio.to_thread(read_all, tenant, f"{path}/events", middle)
    assert resumed == [*records[4:], last]
    finished = await asyncio.to_thread(read_all, tenant, f"{path}/events", records[-1][1])
    assert [name for name, _, _ in finished] == ["end"]
    of_job = await asyncio.to_thread(read_all, tenant, f"{tenant.path}/jobs/{offer.job_id}/events")
    assert of_job == heard


def test_without_follow_a_stream_ends_with_what_is_stored(tenant: Tenant) -> None:
    """For scripts: NDJSON, one record a line."""
    path = started(tenant)
    answer = tenant.viewer.get(f"{path}/events?follow=false", headers={"Accept": "application/x-ndjson"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    (record,) = [json.loads(line) for line in answer.text.splitlines()]
    assert record["event"] == {
        "type": "job",
        "state": "queued",
        "attempt": 1,
        "reason": "",
        "at": record["event"]["at"],
    }
    assert set(record) == {"id", "deployment_id", "job_id", "attempt", "recorded_at", "event"}


def test_the_organizations_stream_has_all_its_jobs(tenant: Tenant) -> None:
    """And goes on, since an organization is never finished."""
    first, second = started(tenant), started(tenant)
    answer = tenant.viewer.get(f"{tenant.path}/events?follow=false", headers={"Accept": "application/x-ndjson"})
    ids = [json.loads(line)["deployment_id"] for line in answer.text.splitlines()]
    assert ids == [first.rpartition("/")[2], second.rpartition("/")[2]]


def test_an_unknown_deployment_has_no_stream(tenant: Tenant) -> None:
    """A mistake is told at once, not by silence."""
    tenant.viewer.ask("GET", f"{tenant.path}/deployments/nothing/events", expect=404)
    tenant.viewer.ask("GET", f"{tenant.path}/jobs/nothing/events", expect=404)


@pytest.mark.parametrize("position", ["x", "-1", "²"])
def test_a_position_that_no_stream_gave_is_refused(tenant: Tenant, position: str) -> None:
    """Starting somewhere else in silence would lose records."""
    headers = {b"Last-Event-ID": position.encode()}
    assert tenant.viewer.get(f"{tenant.path}/events", headers=headers).status_code == 422


def test_a_stream_ends_when_the_relay_stops(own_relay: RelayProcess) -> None:
    """Its client resumes elsewhere; the relay does not wait for it to leave."""
    tenant = make_tenant(own_relay)
    with tenant.viewer.stream("GET", f"{started(tenant)}/events") as response:
        lines = response.iter_lines()
        assert next(lines) == ": connected"
        assert own_relay.stop() == 0
        # A stream that had not ended by itself would have been cut off after a grace: reading it would raise.
        assert "event: end" not in list(lines)
