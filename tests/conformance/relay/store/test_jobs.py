"""Queueing, stopping and the story of a job's states."""

from __future__ import annotations

import json

import pytest

from fairlead_relay.errors import Conflict, NotFound
from fairlead_relay.store import Store
from fairlead_relay.store.applications import Environment, create_environment
from fairlead_relay.store.events import Scope, read_events
from fairlead_relay.store.jobs import (
    Job,
    Stop,
    Transition,
    count_unfinished,
    enqueue_job,
    find_job,
    is_one_of,
    stop_job,
    supersede_earlier,
)
from fairlead_relay.store.schema import jobs
from fairlead_relay.store.sessions import close_session
from fairlead_shared.jobs import TRANSITIONS, JobEvent, JobState
from fairlead_shared.progress import Outcome
from tests.conformance.domain import APPLICATION, ORGANIZATION, START, deploy, health_job
from tests.conformance.queue_actor import connected

HERE = "one-staging"


async def states_of(store: Store, job: Job) -> list[str]:
    """Return the states that a job's story tells of."""
    records = await store.read(lambda c: read_events(c, Scope(ORGANIZATION, job_id=job.id), 0, 1000))
    events = [json.loads(record.event) for record in records]
    return [event["state"] for event in events if event["type"] == "job"]


async def test_a_job_is_queued_with_its_first_record(store: Store) -> None:
    """A watcher sees it before any agent does."""
    deployment = await store.write(deploy)
    stored = await store.read(lambda c: find_job(c, ORGANIZATION, deployment.job.id))
    assert stored == deployment.job
    assert (stored.state, stored.attempt, stored.token) == (JobState.QUEUED, 1, 0)
    assert await states_of(store, stored) == ["queued"]


async def test_a_job_is_found_only_in_its_organization(store: Store) -> None:
    """An id is no key to another tenant's jobs."""
    deployment = await store.write(deploy)
    with pytest.raises(NotFound, match=f"no job is named '{deployment.job.id}'"):
        await store.read(lambda c: find_job(c, "globex", deployment.job.id))


async def test_every_change_of_state_is_a_record_of_its_own(store: Store) -> None:
    """The story is complete and in order, and ends with the final state."""
    await store.write(deploy)
    agent = await connected(store)
    job = await agent.finish(await agent.take())
    assert await states_of(store, job) == ["queued", "leased", "running", "succeeded"]
    last = (await store.read(lambda c: read_events(c, Scope(ORGANIZATION, job_id=job.id), 0, 1000)))[-1]
    assert last.final


@pytest.mark.parametrize("event", list(JobEvent))
async def test_an_event_that_the_table_does_not_list_changes_nothing(store: Store, event: JobEvent) -> None:
    """The guard is the table itself."""
    deployment = await store.write(deploy)
    listed = (JobState.QUEUED, event) in TRANSITIONS
    held = {"holder": "session", "lease_expires_at": START} if event is JobEvent.LEASE else {}
    changed = await store.write(lambda c: Transition(event, jobs.c.id == deployment.job.id, **held).apply(c, START))
    assert [job.state for job in changed] == ([TRANSITIONS[JobState.QUEUED, event]] if listed else [])


@pytest.mark.parametrize(("stop", "ends"), [("cancel", JobState.CANCELLED), ("supersede", JobState.SUPERSEDED)])
async def test_a_queued_job_stops_at_once(store: Store, stop: Stop, ends: JobState) -> None:
    """Nobody has it, so nobody need be asked."""
    deployment = await store.write(deploy)
    job = await store.write(lambda c: stop_job(c, ORGANIZATION, deployment.job.id, stop, START))
    assert (job.state, job.code, job.finished_at) == (ends, "cancelled", START)
    with pytest.raises(Conflict, match=f"has already ended: {ends}"):
        await store.write(lambda c: stop_job(c, ORGANIZATION, deployment.job.id, stop, START))


async def test_a_running_job_stops_when_its_agent_says_so(store: Store) -> None:
    """Asking twice is asking once."""
    await store.write(deploy)
    agent = await connected(store)
    job = await agent.take()
    for _ in range(2):
        stopping = await store.write(lambda c: stop_job(c, ORGANIZATION, job.id, "cancel", START))
        assert (stopping.state, stopping.stop, stopping.holder) == (JobState.CANCELLING, "cancel", agent.session_id)
    ended = await agent.finish(job, Outcome.CANCELLED)
    assert (ended.state, ended.outcome, ended.holder) == (JobState.CANCELLED, Outcome.CANCELLED, None)
    assert await states_of(store, job) == ["queued", "leased", "running", "cancelling", "cancelled"]


async def test_a_job_that_is_unknown_cannot_be_stopped(store: Store) -> None:
    """The caller learns that there is none, not that it was stopped."""
    with pytest.raises(NotFound):
        await store.write(lambda c: stop_job(c, ORGANIZATION, "unknown", "cancel", START))


async def test_a_newer_deployment_supersedes_what_has_not_ended(store: Store) -> None:
    """What waits ends at once, what runs is told, and neither another environment nor a health check is touched."""
    await store.write(
        lambda c: create_environment(
            c, Environment(ORGANIZATION, APPLICATION, "one-b", "staging", "one", "shop", START)
        )
    )
    running, waiting, other = [await store.write(lambda c, e=e: deploy(c, e)) for e in (HERE, HERE, "one-b")]
    check = await store.write(lambda c: enqueue_job(c, health_job(), START))
    agent = await connected(store)
    assert (await agent.take()).id == running.job.id
    place = (ORGANIZATION, APPLICATION, HERE)
    told = await store.write(lambda c: supersede_earlier(c, *place, START))
    assert [(job.id, job.state) for job in told] == [
        (running.job.id, JobState.CANCELLING), (waiting.job.id, JobState.SUPERSEDED)
    ]  # fmt: skip
    assert await store.write(lambda c: supersede_earlier(c, *place, START)) == []
    for job in (other.job, check):
        assert await agent.look(job) == job
    ended = await agent.finish(await agent.look(running.job), Outcome.SUPERSEDED)
    assert (ended.state, ended.outcome) == (JobState.SUPERSEDED, Outcome.SUPERSEDED)


async def test_a_deployment_whose_agent_is_away_is_superseded_when_it_is_back(store: Store) -> None:
    """Nobody can be told before."""
    made = await store.write(deploy)
    agent = await connected(store)
    job = await agent.take()
    await store.write(lambda c: close_session(c, agent.session_id, START))
    assert await store.write(lambda c: supersede_earlier(c, ORGANIZATION, APPLICATION, HERE, START)) == []
    assert (await agent.look(job)).stop == "supersede"
    agent.session_id = "session-2"
    (verdict,) = await agent.connect((made.job.id, job.attempt, job.token))
    assert verdict.verdict == "supersede"


async def test_the_jobs_that_are_not_final_are_counted_by_state(store: Store) -> None:
    """Of all organizations: it is the relay's operator who asks."""
    assert await store.read(count_unfinished) == {}
    first = await store.write(deploy)
    await store.write(deploy)
    assert await store.read(count_unfinished) == {JobState.QUEUED: 2}
    await store.write(lambda c: stop_job(c, ORGANIZATION, first.job.id, "cancel", START))
    assert await store.read(count_unfinished) == {JobState.QUEUED: 1}


def test_states_are_no_parameters() -> None:
    """One that SQLite compares with the condition of a partial index has it plan the statement anew each time."""
    condition = is_one_of(jobs.c.state, JobState.RUNNING, JobState.CANCELLING).compile()
    assert condition.params == {}
    assert str(condition) == "jobs.state = 'cancelling' OR jobs.state = 'running'"
