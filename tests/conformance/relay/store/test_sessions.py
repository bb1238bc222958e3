"""How relay and agent agree on their jobs after any absence."""

from __future__ import annotations

import pytest

from fairlead_relay.errors import AgentRefused
from fairlead_relay.store import Store
from fairlead_relay.store.clusters import find_cluster
from fairlead_relay.store.jobs import Job, Stop, stop_job
from fairlead_relay.store.sessions import NewSession, close_session, close_sessions_of_relay, note_seen, open_session
from fairlead_shared.frames import JobVerdict
from fairlead_shared.jobs import JobState
from tests.conformance.domain import ORGANIZATION, START, deploy, hello, identity_of, step
from tests.conformance.queue_actor import QueueActor, connected


async def running_job(store: Store) -> tuple[QueueActor, Job]:
    """Return an agent with a job that has reported one event."""
    await store.write(deploy)
    agent = await connected(store)
    job = await agent.take()
    await agent.report(job, step(1))
    return agent, job


def verdict(job: Job, words: str, acknowledged_seq: int) -> JobVerdict:
    """Return what the relay should say of a job."""
    return JobVerdict.model_validate({"job_id": job.id, "verdict": words, "acknowledged_seq": acknowledged_seq})


async def test_a_connection_shows_its_agent(store: Store) -> None:
    """The cluster is connected, with what the hello said; after the connection is lost it is offline."""
    agent = await connected(store)
    cluster = await store.read(lambda c: find_cluster(c, ORGANIZATION, "one"))
    assert cluster.state == "connected"
    assert cluster.agent is not None
    assert (cluster.agent.version, cluster.agent.replica, cluster.agent.connected_at) == ("1.2.3", "agent-0", START)
    await store.write(lambda c: note_seen(c, {agent.session_id: START + 7, "unknown": START + 8}))
    cluster = await store.read(lambda c: find_cluster(c, ORGANIZATION, "one"))
    assert cluster.agent is not None
    assert cluster.agent.last_seen_at == START + 7
    await store.write(lambda c: close_session(c, agent.session_id, START + 9))
    cluster = await store.read(lambda c: find_cluster(c, ORGANIZATION, "one"))
    assert cluster.agent is not None
    assert (cluster.state, cluster.agent.last_seen_at) == ("offline", START + 9)


async def test_an_agent_that_was_removed_is_not_let_in(store: Store) -> None:
    """Its certificate may still be valid."""
    session = NewSession("session", "relay-1", identity_of("nowhere"))
    with pytest.raises(AgentRefused, match="knows no such agent"):
        await store.write(lambda c: open_session(c, session, hello(), 60, START))


async def test_a_lost_connection_makes_its_jobs_unreachable(store: Store) -> None:
    """Twice is once, and another session's jobs are left alone."""
    agent, job = await running_job(store)
    assert await store.write(lambda c: close_session(c, "another", START)) == []
    assert [one.id for one in await store.write(lambda c: close_session(c, agent.session_id, START))] == [job.id]
    assert await store.write(lambda c: close_session(c, agent.session_id, START)) == []
    lost = await agent.look(job)
    assert (lost.state, lost.holder, lost.reason) == (
        JobState.UNREACHABLE,
        None,
        "its agent's connection was lost",
    )


async def test_a_job_that_the_agent_lists_goes_on(store: Store) -> None:
    """Same attempt, same token, after the last number that is stored."""
    agent, job = await running_job(store)
    await store.write(lambda c: close_session(c, agent.session_id, START))
    agent.session_id = "second"
    assert await agent.connect((job.id, job.attempt, job.token)) == (verdict(job, "continue", 1),)
    back = await agent.look(job)
    assert (back.state, back.holder, back.attempt, back.token) == (JobState.RUNNING, "second", 1, 1)
    assert (await agent.finish(job)).state is JobState.SUCCEEDED


async def test_a_newer_connection_settles_without_the_end_of_the_older(store: Store) -> None:
    """A network that swallowed the end of a connection must not keep its agent out."""
    agent, job = await running_job(store)
    older = agent.session_id
    agent.session_id = "second"
    assert await agent.connect((job.id, job.attempt, job.token)) == (verdict(job, "continue", 1),)
    assert await store.write(lambda c: close_session(c, older, START)) == []
    assert (await agent.look(job)).holder == "second"
    cluster = await store.read(lambda c: find_cluster(c, ORGANIZATION, "one"))
    assert cluster.state == "connected"


async def test_an_offer_that_the_agent_stored_before_its_answer_was_lost_runs(store: Store) -> None:
    """It has a checkpoint, so it has the job."""
    await store.write(deploy)
    agent = await connected(store)
    leased = await agent.lease()
    assert leased is not None
    agent.session_id = "second"
    await agent.connect((leased.job.id, 1, 1))
    job = await agent.look(leased.job)
    assert (job.state, job.started_at) == (JobState.RUNNING, START)


async def test_a_job_that_the_agent_does_not_know_runs_again(store: Store) -> None:
    """As a new attempt with a new token, numbering on after the events of the first."""
    agent, job = await running_job(store)
    agent.session_id = "second"
    assert await agent.connect() == ()
    again = await agent.look(job)
    assert (again.state, again.attempt, again.reason) == (JobState.QUEUED, 2, "its agent came back without it")
    taken = await agent.take()
    assert (taken.id, taken.attempt, taken.token, taken.acknowledged_seq) == (job.id, 2, 2, 1)


async def test_an_offer_lost_with_its_connection_is_no_attempt(store: Store) -> None:
    """The agent never had it, so it is offered again as it was, under another token; once taken, it counts."""
    await store.write(deploy)
    agent = await connected(store)
    leased = await agent.lease()
    assert leased is not None
    agent.session_id = "second"
    await agent.connect()
    taken = await agent.take()
    assert (taken.id, taken.attempt, taken.token) == (leased.job.id, 1, 2)
    agent.session_id = "third"
    await agent.connect()
    assert (await agent.look(taken)).attempt == 2


async def test_a_job_under_an_old_token_is_abandoned(store: Store) -> None:
    """The agent holds what is no longer its own; what it should hold runs again."""
    agent, job = await running_job(store)
    await store.write(lambda c: close_session(c, agent.session_id, START))
    await agent.connect()
    newer = await agent.take()
    agent.session_id = "third"
    assert await agent.connect((job.id, 1, 1)) == (verdict(job, "abandon", 0),)
    assert newer.token == 2
    assert (await agent.look(job)).state is JobState.QUEUED


async def test_a_job_that_has_ended_or_is_unknown_is_abandoned(store: Store) -> None:
    """The acknowledgement of its result was lost, or the relay's store is another one."""
    agent, job = await running_job(store)
    await agent.finish(job)
    agent.session_id = "second"
    answer = await agent.connect((job.id, 1, 1), ("unknown", 1, 1))
    assert [(one.job_id, one.verdict) for one in answer] == [(job.id, "abandon"), ("unknown", "abandon")]


@pytest.mark.parametrize("stop", ["cancel", "supersede"])
async def test_a_stop_asked_while_the_agent_was_away_reaches_it(store: Store, stop: Stop) -> None:
    """The verdict carries it."""
    agent, job = await running_job(store)
    await store.write(lambda c: close_session(c, agent.session_id, START))
    asked = await store.write(lambda c: stop_job(c, ORGANIZATION, job.id, stop, START))
    assert (asked.state, asked.stop) == (JobState.UNREACHABLE, stop)
    agent.session_id = "second"
    assert await agent.connect((job.id, 1, 1)) == (verdict(job, stop, 1),)
    assert (await agent.look(job)).state is JobState.CANCELLING


@pytest.mark.parametrize(("stop", "ended"), [("cancel", "cancelled"), ("supersede", "superseded")])
async def test_a_stop_asked_while_the_agent_was_away_ends_a_job_that_it_does_not_know(
    store: Store, stop: Stop, ended: str
) -> None:
    """There is nothing left to stop, and it must not run again."""
    agent, job = await running_job(store)
    await store.write(lambda c: close_session(c, agent.session_id, START))
    await store.write(lambda c: stop_job(c, ORGANIZATION, job.id, stop, START))
    await agent.connect()
    after = await agent.look(job)
    assert (after.state, after.outcome, after.code) == (JobState(ended), ended, "cancelled")


async def test_a_job_that_was_stopping_stays_so_over_a_reconnect(store: Store) -> None:
    """The agent may never have heard of the cancel."""
    agent, job = await running_job(store)
    await store.write(lambda c: stop_job(c, ORGANIZATION, job.id, "cancel", START))
    agent.session_id = "second"
    assert await agent.connect((job.id, 1, 1)) == (verdict(job, "cancel", 1),)


async def test_a_restarted_relay_holds_nothing(store: Store) -> None:
    """Its own former connections are gone; another relay's are not."""
    agent, job = await running_job(store)
    assert await store.write(lambda c: close_sessions_of_relay(c, "relay-2", START)) == []
    lost = await store.write(lambda c: close_sessions_of_relay(c, "relay-1", START))
    assert [(one.id, one.state, one.reason) for one in lost] == [
        (job.id, JobState.UNREACHABLE, "the relay was restarted")
    ]
    assert (await store.read(lambda c: find_cluster(c, ORGANIZATION, "one"))).state == "offline"
    assert await agent.lease() is None
