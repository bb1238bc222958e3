"""Two whole relays on one PostgreSQL: an agent at one serves the API of the other, live."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import HelloJob
from fairlead_shared.progress import Step
from tests.conformance.postgresql import running_postgresql
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_process import RelayProcess
from tests.integration.scripted_agent import ScriptedAgent, step
from tests.polling import eventually


@dataclass
class Pair:
    """The relay whose API is used, the one that the agent dials, and both of one tenant."""

    api: RelayProcess
    agents: RelayProcess
    tenant: Tenant
    agent: ScriptedAgent


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Start both: with one database, bundles included, and one certificate authority, as operate.md says."""
    with running_postgresql() as server:
        settings = {"FAIRLEAD_RELAY_DATABASE_URL": server.make_database()}
        first = RelayProcess(tmp_path / "first", environment=settings)
        authority = {"FAIRLEAD_RELAY_AUTHORITY_DIR": str(first.data_dir / "pki")}
        second = RelayProcess(tmp_path / "second", environment=settings | authority)
        try:
            await asyncio.to_thread(first.start)
            await asyncio.to_thread(second.start)
            tenant = await asyncio.to_thread(make_tenant, first)
            agent = await ScriptedAgent.enrol(second.agent_url, tenant.enrolment_token)
            yield Pair(first, second, tenant, agent)
        finally:
            first.close()
            second.close()


async def test_an_agent_at_one_relay_carries_out_what_the_other_was_asked(pair: Pair) -> None:
    """The offer comes at once, the bundle too, and the story is streamed live at the relay that was asked."""
    tenant = pair.tenant
    bundle = config_maps()
    async with pair.agent.connect() as connection:
        await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
        made = await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle)
        path = f"{tenant.path}/deployments/{made['id']}/events"
        following = asyncio.create_task(asyncio.to_thread(follow, tenant, path))
        offer = await connection.wait_offer()
        await connection.accept(offer)
        assert await connection.fetch(bundle.sha256) == bundle.content
        await connection.report(offer.job_id, offer.token, *(step(name) for name in Step))
        await connection.finish(offer.job_id, offer.token)
        events = await following
    states = [event["state"] for event in events if event["type"] == "job"]
    assert states == ["queued", "leased", "running", "succeeded"]
    assert [event["key"] for event in events if event["type"] == "step"] == [f"step/{name}/started" for name in Step]


def follow(tenant: Tenant, path: str) -> list[dict[str, str]]:
    """Read a deployment's stream until it ends by itself."""
    with tenant.viewer.stream("GET", path, headers={"Accept": "application/x-ndjson"}) as response:
        return [json.loads(line)["event"] for line in response.iter_lines()]


async def test_an_agent_revoked_at_one_relay_is_disconnected_from_the_other(pair: Pair) -> None:
    """With the reason."""
    async with pair.agent.connect() as connection:
        await asyncio.to_thread(pair.tenant.admin.ask, "POST", f"{pair.tenant.path}/agents/harbour/revoke", {})
        closed = await connection.wire.wait_closed()
    assert closed.code is ErrorCode.REVOKED


async def test_an_agent_goes_on_with_its_job_at_the_other_relay(pair: Pair) -> None:
    """The one it was connected to is killed for good; nothing is lost and nothing done twice."""
    tenant = pair.tenant
    bundle = config_maps()
    async with pair.agent.connect() as connection:
        await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
        made = await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle)
        offer = await connection.wait_offer()
        await connection.accept(offer)
        await asyncio.to_thread(pair.agents.kill)
    listed = [HelloJob(job_id=offer.job_id, attempt=offer.attempt, token=offer.token, last_seq=0)]
    elsewhere = replace(pair.agent, url=pair.api.agent_url)
    async with elsewhere.connect(listed) as connection:
        assert [(one.job_id, one.verdict) for one in connection.welcome.jobs] == [(offer.job_id, "continue")]
        connection.wire.leases[offer.job_id] = offer.token
        connection.wire.session.start_stream(offer.job_id, 0)
        await connection.finish(offer.job_id, offer.token)
    shown = await tenant.ask("GET", f"{tenant.path}/deployments/{made['id']}")
    assert isinstance(shown, dict)
    assert (shown["state"], shown["job"]["attempt"]) == ("succeeded", 1)


async def test_an_agent_of_a_relay_that_died_for_good_is_shown_as_offline(pair: Pair) -> None:
    """Nobody else says that it is gone: the agent does not come back, and the relay neither."""
    cluster = f"{pair.tenant.path}/clusters/harbour"

    async def is_offline() -> bool:
        shown = await pair.tenant.ask("GET", cluster)
        assert isinstance(shown, dict)
        return bool(shown["state"] == "offline")

    async with pair.agent.connect():
        assert not await is_offline()
        await asyncio.to_thread(pair.agents.kill)
    await eventually(is_offline, "the agent to be offline")


async def test_an_offer_without_an_answer_goes_to_the_other_relay_at_once(pair: Pair) -> None:
    """The one that made it is asked to stop: nobody waits for the agent to say that it does not have the job."""
    tenant = pair.tenant
    bundle = config_maps()
    async with pair.agent.connect() as connection:
        await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
        made = await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle)
        offer = await connection.wait_offer()
        stopping = asyncio.create_task(asyncio.to_thread(pair.agents.stop))
        await connection.wire.wait_closed()
    assert await stopping == 0
    shown = await tenant.ask("GET", f"{tenant.path}/deployments/{made['id']}")
    assert isinstance(shown, dict)
    assert (shown["state"], shown["job"]["attempt"]) == ("queued", 1)
    elsewhere = replace(pair.agent, url=pair.api.agent_url)
    async with elsewhere.connect() as connection:
        again = await connection.wait_offer()
        assert (again.job_id, again.attempt, again.token) == (offer.job_id, 1, offer.token + 1)
        await connection.accept(again)
        await connection.finish(again.job_id, again.token)
