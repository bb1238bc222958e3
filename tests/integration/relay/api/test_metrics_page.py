"""The counts of a real relay, on their own port."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from fairlead_shared.progress import Step
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_process import RelayProcess
from tests.integration.scripted_agent import ScriptedAgent, SessionEnded, step
from tests.polling import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    """Run a relay that serves its counts, with a tenant."""
    running = RelayProcess(tmp_path_factory.mktemp("counted") / "data")
    running.environment = {"FAIRLEAD_RELAY_METRICS_LISTEN": "127.0.0.1:0"}
    yield make_tenant(running.start())
    running.close()


def page(relay: RelayProcess) -> str:
    """Return the address of a relay's counts."""
    ready = next(line for line in Path(relay.log).read_text().splitlines() if "relay ready" in line)
    return f"http://127.0.0.1:{json.loads(ready)['metrics_port']}"


def scrape(relay: RelayProcess) -> dict[str, Metric]:
    """Read the counts as Prometheus does."""
    answer = httpx.get(f"{page(relay)}/metrics", timeout=PATIENCE_SECONDS)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(found: dict[str, Metric], name: str, suffix: str = "", **labels: str) -> float:
    """Return one sample."""
    return sum(
        sample.value
        for sample in found[name].samples
        if sample.name == f"{name}{suffix}" and labels.items() <= sample.labels.items()
    )


async def test_a_deployment_leaves_its_marks_in_the_counts(counted: Tenant) -> None:
    """Queue, dispatch, end, agent, store, requests by route: each moved by what really happened."""
    relay = counted.relay
    bundle = config_maps()
    upload(counted.deployer, counted.organization, bundle)
    deploy(counted.deployer, counted.environment, bundle)
    found = scrape(relay)
    assert value(found, "fairlead_relay_jobs", state="queued") == 1
    assert value(found, "fairlead_relay_agents_connected") == 0
    agent = await counted.enrol()
    async with agent.connect() as connection:
        offer = await connection.wait_offer()
        await connection.accept(offer)
        await connection.report(offer.job_id, offer.token, *(step(name) for name in Step))
        assert value(scrape(relay), "fairlead_relay_agents_connected") == 1
        await connection.finish(offer.job_id, offer.token)
        found = scrape(relay)
    assert value(found, "fairlead_relay_jobs", state="queued") == 0
    assert value(found, "fairlead_relay_jobs_ended", "_total", state="succeeded") == 1
    assert value(found, "fairlead_relay_environments_drifted") == 0
    assert value(found, "fairlead_relay_dispatch_seconds", "_count") == 1
    assert value(found, "fairlead_relay_store_commit_seconds", "_count") > 3
    route = "/v1/organizations/{organization}/bundles/{sha256}"
    assert value(found, "fairlead_relay_api_requests", "_total", method="PUT", route=route, status="201") == 1
    assert value(found, "fairlead_relay_loop_lag_seconds", "_count") > 0
    tenants = [name for name, family in found.items() if counted.organization in str(family.samples)]
    assert tenants == []


def test_the_page_has_nothing_else_and_the_api_has_no_counts(counted: Tenant) -> None:
    """Each port serves what it is for."""
    assert httpx.get(f"{page(counted.relay)}/v1/version").status_code == 404
    assert httpx.post(f"{page(counted.relay)}/metrics").status_code == 405
    assert counted.admin.get("/metrics").status_code == 404


def test_no_counts_are_served_unless_somebody_asked_for_them(relay: RelayProcess) -> None:
    """They need no token, so they are the operator's to open."""
    ready = next(line for line in Path(relay.log).read_text().splitlines() if "relay ready" in line)
    assert json.loads(ready)["metrics_port"] is None


async def test_a_refused_enrolment_is_counted_by_its_reason(counted: Tenant) -> None:
    """One of a few codes, whatever the token was."""
    cluster = f"{counted.path}/clusters/harbour"
    token = counted.admin.ask("POST", f"{cluster}/enrolment-tokens", {}, 201)["token"]
    await ScriptedAgent.enrol(counted.relay.agent_url, token)
    with pytest.raises(SessionEnded):
        await ScriptedAgent.enrol(counted.relay.agent_url, token)
    found = scrape(counted.relay)
    assert value(found, "fairlead_relay_connections_refused", "_total", reason="enrol_token_invalid") == 1
