"""Why a job waits, in one sentence."""

from __future__ import annotations

from dataclasses import replace

from fairlead_relay.bus import LocalBus
from fairlead_relay.store import Store
from fairlead_relay.store.clusters import create_cluster
from fairlead_relay.store.jobs import Job, enqueue_job
from fairlead_relay.store.leases import hand_back_job
from fairlead_relay.store.sessions import close_session
from fairlead_relay.store.waiting import waiting_reason
from tests.conformance.conftest import MakeStore
from tests.conformance.domain import ORGANIZATION, START, deploy, health_job, seed
from tests.conformance.queue_actor import connected


async def why(store: Store, job: Job, job_limit: int = 10, now: float = START) -> str:
    """Return the reason that is shown for a job."""
    return await store.read(lambda c: waiting_reason(c, job, job_limit, now))


async def test_a_job_waits_for_an_agent_that_is_not_there(store: Store) -> None:
    """Since when, if it ever was."""
    deployment = await store.write(deploy)
    assert await why(store, deployment.job) == "waits for agent: never connected"
    agent = await connected(store)
    assert await why(store, deployment.job) == ""
    await store.write(lambda c: close_session(c, agent.session_id, START + 0.25))
    assert await why(store, deployment.job) == "waits for agent: offline since 2026-11-18T11:06:40.250Z"


async def test_a_job_waits_for_the_first_enrolment(store: Store) -> None:
    """The cluster was created, its agent not yet installed."""
    await store.write(lambda c: create_cluster(c, ORGANIZATION, "new", START))
    job = await store.write(lambda c: enqueue_job(c, replace(health_job(), cluster="new"), START))
    assert await why(store, job) == "waits for agent: none has enrolled for this cluster yet"


async def test_a_job_waits_for_the_deployment_before_it(store: Store) -> None:
    """The one that runs now, or the one that is next."""
    first = await store.write(deploy)
    second = await store.write(deploy)
    await connected(store)
    assert await why(store, first.job) == ""
    assert await why(store, second.job) == f"waits for deployment {first.id} of the same environment"


async def test_a_job_waits_for_a_busy_agent(make_store: MakeStore) -> None:
    """With the number of jobs that it runs."""
    store = await make_store(LocalBus())
    await store.write(lambda c: seed(c, environments=("a", "b")))
    await store.write(lambda c: deploy(c, "one-a"))
    waiting = await store.write(lambda c: deploy(c, "one-b"))
    agent = await connected(store)
    await agent.take()
    assert await why(store, waiting.job, job_limit=1) == "waits for agent: 1 jobs running"
    assert await why(store, waiting.job, job_limit=2) == ""


async def test_a_job_that_was_put_off_says_why_and_until_when(store: Store) -> None:
    """Then it is due again."""
    await store.write(deploy)
    agent = await connected(store)
    leased = await agent.lease()
    assert leased is not None
    await store.write(lambda c: hand_back_job(c, agent.holding(leased.job), 5, "its agent is full", START))
    job = await agent.look(leased.job)
    assert await why(store, job) == "its agent is full; offered again at 2026-11-18T11:06:45.000Z"
    assert await why(store, job, now=START + 5) == ""


async def test_a_job_that_runs_waits_for_nothing(store: Store) -> None:
    """Its progress is what there is to see."""
    await store.write(deploy)
    agent = await connected(store)
    assert await why(store, await agent.take()) == ""


async def test_an_unreachable_job_waits_for_its_agent(store: Store) -> None:
    """It is not known to be lost."""
    await store.write(deploy)
    agent = await connected(store)
    job = await agent.take()
    await store.write(lambda c: close_session(c, agent.session_id, START))
    assert await why(store, await agent.look(job)) == "waits for agent: offline since 2026-11-18T11:06:40.000Z"
