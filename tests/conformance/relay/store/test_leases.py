"""Which job an agent gets next, how it answers, and what happens when time runs out."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from fairlead_relay.bus import LocalBus
from fairlead_relay.store import Store
from fairlead_relay.store.events import Scope, read_events
from fairlead_relay.store.job_lists import JobFilter, list_jobs
from fairlead_relay.store.jobs import Stop, enqueue_job, find_job, stop_job
from fairlead_relay.store.leases import (
    ClusterWork,
    Holding,
    accept_jobs,
    clusters_with_work,
    expire_overdue,
    find_work,
    hand_back_job,
    hand_back_unanswered,
    lose_overdue,
    refuse_job,
    stopping_jobs,
)
from fairlead_relay.store.schema import jobs
from fairlead_relay.store.sessions import close_session, renew_leases, sessions_of_relay
from fairlead_relay.store.waiting import waiting_reason
from fairlead_shared.errors import ErrorCode
from fairlead_shared.jobs import JobState
from fairlead_shared.progress import Outcome
from tests.conformance.conftest import MakeStore
from tests.conformance.domain import ENVELOPE, ORGANIZATION, START, deploy, health_job, seed
from tests.conformance.queue_actor import LEASE_SECONDS, connected


async def test_a_lease_carries_what_the_offer_needs(store: Store) -> None:
    """Token and lease are new, statement and size are the deployment's."""
    deployment = await store.write(deploy)
    agent = await connected(store)
    leased = await agent.lease()
    assert leased is not None
    job = leased.job
    assert (job.id, job.state, job.attempt, job.token) == (deployment.job.id, JobState.LEASED, 1, 1)
    assert (job.holder, job.lease_expires_at) == (agent.session_id, START + LEASE_SECONDS)
    assert (leased.envelope, leased.bundle_bytes) == (ENVELOPE, 10)
    assert await agent.lease() is None


async def test_a_job_of_a_kind_of_a_newer_relay_waits_and_is_in_nobodys_way(store: Store) -> None:
    """It is listed and says why it waits; once a newer relay has leased it, its agent ends it here."""
    unknown = replace(health_job(), kind="intercept")
    waiting = await store.write(lambda c: enqueue_job(c, unknown, START))
    check = await store.write(lambda c: enqueue_job(c, health_job(), START))
    agent = await connected(store)
    assert (await agent.take()).id == check.id
    assert await agent.lease() is None
    listed = await store.read(lambda c: list_jobs(c, ORGANIZATION, JobFilter(), 9))
    assert {job.kind for job in listed} == {"health", "intercept"}
    reason = await store.read(lambda c: waiting_reason(c, waiting, 10, START))
    assert reason == "waits for a newer relay: this one knows no jobs of kind 'intercept'"
    held = (
        update(jobs)
        .where(jobs.c.id == waiting.id)
        .values(state=str(JobState.RUNNING), holder=agent.session_id, token=1, lease_expires_at=START + LEASE_SECONDS)
    )
    await store.write(lambda c: c.execute(held))
    assert (await agent.finish(await agent.look(waiting))).state is JobState.SUCCEEDED


async def test_a_job_of_a_kind_of_a_newer_relay_expires(store: Store) -> None:
    """As any other that no agent took."""
    waiting = await store.write(lambda c: enqueue_job(c, replace(health_job(), kind="intercept"), START))
    assert [job.id for job in await store.write(lambda c: expire_overdue(c, waiting.deadline + 1))] == [waiting.id]


async def test_nothing_is_leased_to_a_session_that_is_not_the_newest(store: Store) -> None:
    """A replaced connection may still run its code for a while."""
    await store.write(deploy)
    agent = await connected(store)
    agent.session_id = "another"
    assert await agent.lease() is None


async def test_nothing_is_leased_across_clusters(make_store: MakeStore) -> None:
    """A cluster's agent gets its own cluster's jobs."""
    store = await make_store(LocalBus())
    await store.write(lambda c: seed(c, ("one", "two")))
    await store.write(deploy)
    assert await (await connected(store, "two")).lease() is None
    assert await (await connected(store, "one")).lease() is not None


async def test_deployments_of_one_environment_run_one_at_a_time_in_their_order(store: Store) -> None:
    """The next one waits until the one before it has ended."""
    first = await store.write(deploy)
    second = await store.write(deploy)
    agent = await connected(store)
    job = await agent.take()
    assert job.id == first.job.id
    assert await agent.lease() is None
    await agent.finish(job)
    assert (await agent.take()).id == second.job.id


async def test_an_environments_order_outlives_a_delay(store: Store) -> None:
    """A job that was put off is not overtaken by a later one of its environment."""
    first = await store.write(deploy)
    await store.write(deploy)
    agent = await connected(store)
    leased = await agent.lease()
    assert leased is not None
    await store.write(lambda c: hand_back_job(c, agent.holding(leased.job), 5, "busy", agent.now))
    assert await agent.lease() is None
    agent.now += 5
    again = await agent.lease()
    assert again is not None
    assert (again.job.id, again.job.token, again.job.attempt) == (first.job.id, 2, 1)


async def test_an_unreachable_job_keeps_its_environment(store: Store) -> None:
    """Its agent may still be at work, so nothing else may touch the environment."""
    await store.write(deploy)
    await store.write(deploy)
    agent = await connected(store)
    job = await agent.take()
    agent.now += LEASE_SECONDS
    assert [one.id for one in await store.write(lambda c: lose_overdue(c, 60, agent.now))] == [job.id]
    await agent.connect((job.id, 1, 1))
    await store.write(lambda c: close_session(c, agent.session_id, agent.now))
    assert await agent.lease() is None


async def test_the_database_itself_refuses_two_jobs_in_one_environment(store: Store) -> None:
    """Should the code ever err, the index holds."""
    await store.write(deploy)
    second = await store.write(deploy)
    agent = await connected(store)
    await agent.take()
    wrong = update(jobs).where(jobs.c.id == second.job.id).values(state="unreachable")
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.write(lambda c: c.execute(wrong))
    assert IntegrityError is not None


async def test_environments_run_beside_each_other_up_to_the_agents_limit(make_store: MakeStore) -> None:
    """The limit counts what the agent holds, not what waits."""
    store = await make_store(LocalBus())
    await store.write(lambda c: seed(c, environments=("a", "b", "c")))
    for name in "abc":
        await store.write(lambda c, e=f"one-{name}": deploy(c, e))
    agent = await connected(store, job_limit=2)
    first = await agent.take()
    assert await agent.lease() is not None
    assert await agent.lease() is None
    await agent.finish(first)
    assert await agent.lease() is not None


async def test_a_job_that_only_reads_runs_beside_a_deployment(store: Store) -> None:
    """Looking at health while a deployment runs is what it is for."""
    await store.write(deploy)
    await store.write(lambda c: enqueue_job(c, health_job(), START))
    agent = await connected(store)
    await agent.take()
    leased = await agent.lease()
    assert leased is not None
    assert (leased.job.deployment_id, leased.envelope, leased.bundle_bytes) == (None, None, 0)


async def test_a_higher_priority_goes_first_between_environments(make_store: MakeStore) -> None:
    """Within one environment the order of storing holds all the same."""
    store = await make_store(LocalBus())
    await store.write(lambda c: seed(c, environments=("a", "b")))
    first = await store.write(lambda c: deploy(c, "one-a"))
    await store.write(lambda c: deploy(c, "one-a", priority=9))
    urgent = await store.write(lambda c: deploy(c, "one-b", priority=5))
    agent = await connected(store)
    assert [(await agent.take()).id for _ in range(2)] == [urgent.job.id, first.job.id]


async def test_only_the_holder_with_the_token_may_answer(store: Store) -> None:
    """Whatever a former holder still says changes nothing."""
    await store.write(deploy)
    agent = await connected(store)
    leased = await agent.lease()
    assert leased is not None
    for claim in (
        Holding("another", leased.job.id, leased.job.token),
        Holding(agent.session_id, leased.job.id, leased.job.token - 1),
    ):
        assert await store.write(lambda c, who=claim: accept_jobs(c, [(who, START)])) == [False]
        assert not await store.write(lambda c, who=claim: refuse_job(c, who, ErrorCode.NOT_BOUND, "no", START))
        assert not await store.write(lambda c, who=claim: hand_back_job(c, who, 5, "busy", START))
    assert (await store.write(lambda c: accept_jobs(c, [(agent.holding(leased.job), START + 1)])))[0]
    job = await agent.look(leased.job)
    assert (job.state, job.started_at) == (JobState.RUNNING, START + 1)


async def test_a_refused_job_ends_and_frees_its_environment(store: Store) -> None:
    """The agent's own words are kept."""
    await store.write(deploy)
    await store.write(deploy)
    agent = await connected(store)
    leased = await agent.lease()
    assert leased is not None
    assert await store.write(
        lambda c: refuse_job(c, agent.holding(leased.job), ErrorCode.NOT_BOUND, "namespace 'shop' is not bound", START)
    )
    job = await agent.look(leased.job)
    assert (job.state, job.outcome, job.code) == (JobState.REFUSED, Outcome.REFUSED, "not_bound")
    assert (job.cause, job.finished_at, job.holder) == ("namespace 'shop' is not bound", START, None)
    assert await agent.lease() is not None


@pytest.mark.parametrize(("stop", "ends"), [("cancel", JobState.CANCELLED), ("supersede", JobState.SUPERSEDED)])
async def test_a_job_that_must_stop_ends_when_its_agent_does_not_take_it(
    store: Store, stop: Stop, ends: JobState
) -> None:
    """Refusal and hand-back cross the cancel on the wire: there is nothing left to stop."""
    agent = await connected(store)
    for answer in ("refuse", "hand_back"):
        await store.write(deploy)
        leased = await agent.lease()
        assert leased is not None
        holding = agent.holding(leased.job)
        await store.write(lambda c, job=leased.job: stop_job(c, ORGANIZATION, job.id, stop, START))
        if answer == "refuse":
            assert await store.write(lambda c, who=holding: refuse_job(c, who, ErrorCode.NOT_BOUND, "no", START))
        else:
            assert await store.write(lambda c, who=holding: hand_back_job(c, who, 5, "busy", START))
        assert (await agent.look(leased.job)).state is ends


async def test_an_accept_that_crosses_the_cancel_is_still_the_agents(store: Store) -> None:
    """Its progress must be expected, the cancel follows."""
    await store.write(deploy)
    agent = await connected(store)
    leased = await agent.lease()
    assert leased is not None
    await store.write(lambda c: stop_job(c, ORGANIZATION, leased.job.id, "cancel", START))
    assert (await store.write(lambda c: accept_jobs(c, [(agent.holding(leased.job), START)])))[0]
    assert [job.id for job in await store.read(lambda c: stopping_jobs(c, agent.session_id))] == [leased.job.id]


async def test_an_unanswered_offer_goes_back_to_the_queue(store: Store) -> None:
    """The late answer carries an old token."""
    await store.write(deploy)
    agent = await connected(store)
    leased = await agent.lease()
    assert leased is not None
    assert await store.write(lambda c: hand_back_unanswered(c, 30, START + 29)) == []
    assert len(await store.write(lambda c: hand_back_unanswered(c, 30, START + 31))) == 1
    again = await agent.lease()
    assert again is not None
    assert again.job.token == 2
    assert not (await store.write(lambda c: accept_jobs(c, [(agent.holding(leased.job), START)])))[0]


async def test_a_renewed_lease_does_not_run_out(store: Store) -> None:
    """Renewal is for the holder with the token; other claims are not confirmed."""
    await store.write(deploy)
    agent = await connected(store)
    job = await agent.take()
    claims = [(job.id, job.token), (job.id, job.token + 1), ("unknown", 1)]
    assert await store.write(lambda c: renew_leases(c, agent.session_id, claims, 60, START + 30)) == [job.id]
    assert await store.write(lambda c: renew_leases(c, "another", claims, 60, START + 30)) == []
    assert await store.write(lambda c: lose_overdue(c, 60, START + 89)) == []
    assert len(await store.write(lambda c: lose_overdue(c, 60, START + 90))) == 1


async def test_a_session_that_lets_one_lease_run_out_loses_all_its_jobs_and_gets_no_more(make_store: MakeStore) -> None:
    """Its relay may be another one that hangs, so the store decides."""
    store = await make_store(LocalBus())
    await store.write(lambda c: seed(c, environments=("a", "b", "c")))
    agent = await connected(store)
    for name in "abc":
        await store.write(lambda c, e=f"one-{name}": deploy(c, e))
    first, second = await agent.take(), await agent.take()
    await store.write(lambda c: renew_leases(c, agent.session_id, [(first.id, first.token)], 60, START + 50))
    assert await store.read(lambda c: sessions_of_relay(c, "relay-1")) == {agent.session_id}
    lost = await store.write(lambda c: lose_overdue(c, 60, START + 61))
    assert [one.id for one in lost] == [first.id, second.id]
    assert await store.read(lambda c: sessions_of_relay(c, "relay-1")) == set()
    assert await agent.lease() is None


async def test_a_queued_job_expires_at_its_deadline(store: Store) -> None:
    """It ends visibly, and is not leased in its last moment."""
    deployment = await store.write(lambda c: deploy(c, deadline_seconds=60))
    agent = await connected(store)
    agent.now += 60
    assert await agent.lease() is None
    await store.write(lambda c: expire_overdue(c, agent.now))
    job = await agent.look(deployment.job)
    assert (job.state, job.outcome, job.code) == (JobState.EXPIRED, None, "deadline")
    assert job.cause == "its deadline passed before its agent took it"


async def test_a_job_that_expires_while_its_agent_is_away_says_so(store: Store) -> None:
    """Whose absence it was stays known after it ended."""
    deployment = await store.write(lambda c: deploy(c, deadline_seconds=60))
    expired = await store.write(lambda c: expire_overdue(c, START + 60))
    assert [(job.id, job.cause) for job in expired] == [
        (deployment.job.id, "its deadline passed while it waited for agent: not connected")
    ]


async def test_a_running_job_long_after_its_deadline_fails_with_an_unknown_end(store: Store) -> None:
    """No state that is not final is kept for ever, even if the agent renews its lease on and on."""
    await store.write(lambda c: deploy(c, deadline_seconds=30))
    agent = await connected(store)
    job = await agent.take()
    assert await store.write(lambda c: expire_overdue(c, START + 31)) == []
    assert await store.write(lambda c: lose_overdue(c, 20, START + 49)) == []
    assert len(await store.write(lambda c: lose_overdue(c, 20, START + 50))) == 1
    await store.write(lambda c: expire_overdue(c, START + 50))
    ended = await agent.look(job)
    assert (ended.state, ended.outcome, ended.code) == (JobState.FAILED, Outcome.FAILED, "deadline")
    assert "how it ended is not known" in ended.cause


async def test_clusters_with_work_are_those_whose_connected_agent_could_take_some(store: Store) -> None:
    """The sweep finds what a lost notice hid, and nothing that must wait."""
    assert await store.read(lambda c: clusters_with_work(c, START)) == []
    deployment = await store.write(deploy)
    assert await store.read(lambda c: clusters_with_work(c, START)) == []
    agent = await connected(store)
    assert await store.read(lambda c: clusters_with_work(c, START)) == [(ORGANIZATION, "one")]
    job = await agent.take()
    assert await store.read(lambda c: clusters_with_work(c, START)) == []
    await store.write(lambda c: stop_job(c, ORGANIZATION, deployment.job.id, "cancel", START))
    assert await store.read(lambda c: clusters_with_work(c, START)) == [(ORGANIZATION, "one")]
    await agent.finish(job, Outcome.CANCELLED)
    assert await store.read(lambda c: clusters_with_work(c, START)) == []


async def test_work_is_found_for_many_clusters_at_once(make_store: MakeStore) -> None:
    """What is due, what is held and what must stop, each counted; clusters without any are missing."""
    store = await make_store(LocalBus())
    await store.write(lambda c: seed(c, ("one", "two", "three"), ("a", "b")))
    clusters = [(ORGANIZATION, name) for name in ("one", "two", "three", "nowhere")]
    assert await store.read(lambda c: find_work(c, clusters, START)) == {}
    for name in ("one-a", "one-b", "two-a"):
        await store.write(lambda c, e=name: deploy(c, e))
    assert await store.read(lambda c: find_work(c, clusters, START)) == {
        (ORGANIZATION, "one"): ClusterWork(2, 0, 0),
        (ORGANIZATION, "two"): ClusterWork(1, 0, 0),
    }
    one, two = await connected(store), await connected(store, "two")
    job, put_off = await one.take(), await two.lease()
    assert put_off is not None
    await store.write(lambda c: stop_job(c, ORGANIZATION, job.id, "cancel", START))
    await store.write(lambda c: hand_back_job(c, two.holding(put_off.job), 5, "busy", START))
    assert await store.read(lambda c: find_work(c, clusters, START + 4)) == {
        (ORGANIZATION, "one"): ClusterWork(1, 1, 1)
    }
    assert await store.read(lambda c: find_work(c, clusters[1:2], START + 5)) == {
        (ORGANIZATION, "two"): ClusterWork(1, 0, 0)
    }


async def test_jobs_of_many_agents_are_taken_together(make_store: MakeStore) -> None:
    """Each gets its own answer and its own time; records and notices are those of each taken alone."""
    store = await make_store(LocalBus())
    await store.write(lambda c: seed(c, ("one", "two")))
    claims = []
    for number, cluster in enumerate(("one", "two")):
        await store.write(lambda c, e=f"{cluster}-staging": deploy(c, e))
        agent = await connected(store, cluster)
        leased = await agent.lease()
        assert leased is not None
        claims.append((agent.holding(leased.job), START + number))
    stranger = (Holding("another", claims[0][0].job_id, 1), START)
    assert await store.write(lambda c: accept_jobs(c, [*claims, stranger, claims[1]])) == [True, True, False, True]
    for claim, now in claims:
        job = await store.read(lambda c, i=claim.job_id: find_job(c, ORGANIZATION, i))
        records = await store.read(lambda c, i=claim.job_id: read_events(c, Scope(ORGANIZATION, job_id=i), 0, 9))
        assert (job.state, job.started_at) == (JobState.RUNNING, now)
        states = [json.loads(record.event)["state"] for record in records]
        assert states == ["queued", "leased", "running"]
