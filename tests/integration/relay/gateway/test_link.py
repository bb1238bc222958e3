"""One agent's connection to a real relay, end to end: enrol, hello, offer, accept, progress, result."""

import asyncio
import json

from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import HeartbeatAck, HelloJob, JobCancel, JobRefuse
from fairlead_shared.progress import Outcome, Step
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_process import Api, RelayProcess
from tests.integration.scripted_agent import step
from tests.polling import eventually


def records(api: Api, path: str) -> list[dict[str, object]]:
    """Return the stored records of a deployment or job."""
    text = api.get(f"{path}/events?follow=false", headers={"Accept": "application/x-ndjson"}).text
    return [json.loads(line) for line in text.splitlines()]


async def deployed(tenant: Tenant, **further: object) -> str:
    """Upload a bundle, ask for its deployment, and return the deployment's path."""
    bundle = config_maps()
    await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
    made = await asyncio.to_thread(lambda: deploy(tenant.deployer, tenant.environment, bundle, **further))
    return f"{tenant.path}/deployments/{made['id']}"


async def wait_state(tenant: Tenant, path: str, state: str) -> dict[str, object]:
    """Wait until a deployment is in a state."""

    async def look() -> dict[str, object] | None:
        shown = await asyncio.to_thread(tenant.viewer.ask, "GET", path)
        return shown if shown["state"] == state else None

    found = await eventually(look, f"{path} to be {state}")
    assert found is not None
    return found


async def test_a_deployment_runs_from_request_to_result(tenant: Tenant) -> None:
    """The whole path: every step that the agent reported is stored once, in order, and ends in the final state."""
    agent = await tenant.enrol()
    path = await deployed(tenant, origins={"ConfigMap shop/settings-0": "app.yaml:3"})
    async with agent.connect() as connection:
        offer = await connection.wait_offer()
        statement = connection.statement(offer)
        assert (statement.organization, statement.namespaces) == (tenant.organization, ("shop",))
        assert statement.cluster == "harbour"
        assert statement.previous_bundle_sha256 is None
        await connection.accept(offer)
        content = await connection.fetch(statement.bundle_sha256)
        assert len(content) == offer.bundle_bytes
        await connection.report(offer.job_id, offer.token, step(Step.VERIFY), step(Step.APPLY))
        await connection.finish(offer.job_id, offer.token)
        shown = await wait_state(tenant, path, "succeeded")
    assert shown["origins"] == {"ConfigMap shop/settings-0": "app.yaml:3"}
    told = await asyncio.to_thread(records, tenant.viewer, path)
    kinds = [(record["event"]["type"], record["event"].get("state")) for record in told]  # type: ignore[attr-defined, index]
    assert kinds == [
        ("job", "queued"),
        ("job", "leased"),
        ("job", "running"),
        ("step", None),
        ("step", None),
        ("result", None),
        ("job", "succeeded"),
    ]
    assert [record["id"] for record in told] == sorted(record["id"] for record in told)  # type: ignore[type-var]


async def test_a_job_for_an_agent_that_is_away_waits_and_says_why(tenant: Tenant) -> None:
    """Nothing is lost while nobody is there; the reason is shown, and the job runs when the agent is back."""
    agent = await tenant.enrol()
    path = await deployed(tenant)
    waiting = await wait_state(tenant, path, "queued")
    assert str(waiting["reason"]).startswith("waits for agent")
    async with agent.connect() as connection:
        offer = await connection.wait_offer()
        await connection.accept(offer)
        await connection.finish(offer.job_id, offer.token)
    await wait_state(tenant, path, "succeeded")


async def test_a_lost_connection_resumes_without_loss_or_doubling(tenant: Tenant) -> None:
    """What was not acknowledged is sent again, what was stored is not stored twice, and the attempt stays the same."""
    agent = await tenant.enrol()
    path = await deployed(tenant)
    events = [step(Step.VERIFY), step(Step.FETCH), step(Step.APPLY)]
    async with agent.connect() as connection:
        offer = await connection.wait_offer()
        await connection.accept(offer)
        seq = await connection.report(offer.job_id, offer.token, *events[:2])
        await connection.wire.wait_acknowledged(offer.job_id, seq)
        connection.wire.abort()
    await wait_state(tenant, path, "unreachable")
    mine = HelloJob(job_id=offer.job_id, attempt=offer.attempt, token=offer.token, last_seq=2)
    async with agent.connect([mine]) as connection:
        (verdict,) = connection.welcome.jobs
        assert (verdict.verdict, verdict.acknowledged_seq) == ("continue", 2)
        await connection.report(offer.job_id, offer.token, events[2])
        await connection.finish(offer.job_id, offer.token)
    shown = await wait_state(tenant, path, "succeeded")
    assert shown["job"]["attempt"] == 1  # type: ignore[index]
    told = await asyncio.to_thread(records, tenant.viewer, path)
    keys = [record["event"]["key"] for record in told if "key" in record["event"]]  # type: ignore[operator, index]
    assert keys == [event.key for event in events] + ["result"]


async def test_a_job_that_the_agent_does_not_know_runs_again(tenant: Tenant) -> None:
    """An agent that lost everything disowns its jobs by its hello: a new attempt, with progress going on in number."""
    agent = await tenant.enrol()
    path = await deployed(tenant)
    async with agent.connect() as connection:
        offer = await connection.wait_offer()
        await connection.accept(offer)
        seq = await connection.report(offer.job_id, offer.token, step(Step.VERIFY))
        await connection.wire.wait_acknowledged(offer.job_id, seq)
        connection.wire.abort()
    async with agent.connect() as connection:
        again = await connection.wait_offer()
        assert (again.job_id, again.attempt) == (offer.job_id, 2)
        assert again.token > offer.token
        assert again.acknowledged_seq == 1
        await connection.accept(again)
        await connection.report(again.job_id, again.token, step(Step.VERIFY), step(Step.APPLY))
        await connection.finish(again.job_id, again.token)
    await wait_state(tenant, path, "succeeded")
    told = await asyncio.to_thread(records, tenant.viewer, path)
    keys = [record["event"]["key"] for record in told if "key" in record["event"]]  # type: ignore[operator, index]
    assert keys == ["step/verify/started", "step/apply/started", "result"]


async def test_a_killed_relay_goes_on_with_the_job_when_it_is_back(own_relay: RelayProcess) -> None:
    """SIGKILL between two events: the same job and attempt, with everything that was acknowledged."""
    tenant = await asyncio.to_thread(make_tenant, own_relay)
    agent = await tenant.enrol()
    path = await deployed(tenant)
    async with agent.connect() as connection:
        offer = await connection.wait_offer()
        await connection.accept(offer)
        seq = await connection.report(offer.job_id, offer.token, step(Step.VERIFY), step(Step.APPLY))
        await connection.wire.wait_acknowledged(offer.job_id, seq)
        own_relay.kill()
        await connection.wire.wait_closed()
    await asyncio.to_thread(own_relay.start)
    shown = await asyncio.to_thread(tenant.viewer.ask, "GET", path)
    assert shown["state"] == "unreachable"
    mine = HelloJob(job_id=offer.job_id, attempt=offer.attempt, token=offer.token, last_seq=seq)
    async with agent.connect([mine]) as connection:
        assert connection.welcome.jobs[0].acknowledged_seq == seq
        await connection.finish(offer.job_id, offer.token)
    shown = await wait_state(tenant, path, "succeeded")
    assert shown["job"]["attempt"] == 1  # type: ignore[index]


async def test_a_cancel_reaches_the_agent_which_says_how_it_ended(tenant: Tenant) -> None:
    """The cancel is sent over the live connection; the job is cancelled once the agent has wound down."""
    agent = await tenant.enrol()
    path = await deployed(tenant)
    async with agent.connect() as connection:
        offer = await connection.wait_offer()
        await connection.accept(offer)
        await wait_state(tenant, path, "running")
        await tenant.ask("POST", f"{path}/cancel", expect=202)
        cancel = await connection.wire.wait_message(JobCancel)
        assert (cancel.job_id, cancel.token, cancel.superseded) == (offer.job_id, offer.token, False)
        await connection.finish(offer.job_id, offer.token, Outcome.CANCELLED, "stopped by request")
    shown = await wait_state(tenant, path, "cancelled")
    assert shown["cause"] == "stopped by request"


async def test_a_refusal_ends_the_job_with_the_agents_words(tenant: Tenant) -> None:
    """The agent's own rules said no: the code and the sentence reach whoever asked."""
    agent = await tenant.enrol()
    path = await deployed(tenant)
    async with agent.connect() as connection:
        offer = await connection.wait_offer()
        refusal = JobRefuse(
            job_id=offer.job_id,
            attempt=offer.attempt,
            token=offer.token,
            code=ErrorCode.NOT_BOUND,
            message="namespace shop is not bound to this environment",
            temporary=False,
        )
        await connection.wire.send(refusal)
        shown = await wait_state(tenant, path, "refused")
    assert (shown["code"], shown["cause"]) == ("not_bound", "namespace shop is not bound to this environment")


async def test_a_newer_connection_of_the_same_agent_replaces_the_older(tenant: Tenant) -> None:
    """A half-open connection must not hold an agent's jobs; the older one is told and closed."""
    agent = await tenant.enrol()
    async with agent.connect() as older, agent.connect() as newer:
        closed = await older.wire.wait_closed()
        assert "newer connection" in closed.reason
        path = await deployed(tenant)
        offer = await newer.wait_offer()
        await newer.accept(offer)
        await newer.finish(offer.job_id, offer.token)
        await wait_state(tenant, path, "succeeded")


async def test_a_large_bundle_does_not_delay_a_heartbeat(tenant: Tenant) -> None:
    """Bulk waits for control: while 8 MiB are under way, heartbeats are answered."""
    agent = await tenant.enrol()
    bundle = config_maps(16, size_bytes=512 * 1024)
    await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
    await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle)
    async with agent.connect() as connection:
        offer = await connection.wait_offer()
        await connection.accept(offer)
        fetching = asyncio.create_task(connection.fetch(bundle.sha256))
        connection.wire.beat()
        await connection.wire.flush()
        assert await fetching == bundle.content
        await connection.wire.wait_message(HeartbeatAck)
        await connection.finish(offer.job_id, offer.token)
