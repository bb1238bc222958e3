"""What agents report: stored once, in order, and the end of a job with it."""

from __future__ import annotations

import json

import pytest

from fairlead_relay.bus import LocalBus
from fairlead_relay.store import Store
from fairlead_relay.store.events import Scope, read_events
from fairlead_relay.store.jobs import Job, Stop, stop_job
from fairlead_relay.store.outbox import EventRecord
from fairlead_relay.store.progress import Reported, record_progress
from fairlead_shared.errors import ErrorCode
from fairlead_shared.jobs import JobState
from fairlead_shared.progress import Action, Outcome, ResultEvent
from tests.conformance.conftest import MakeStore
from tests.conformance.domain import ORGANIZATION, START, deploy, result, seed, step
from tests.conformance.queue_actor import QueueActor, connected


async def running_job(store: Store) -> tuple[QueueActor, Job]:
    """Return an agent and the job it runs."""
    await store.write(deploy)
    agent = await connected(store)
    return agent, await agent.take()


async def keys_of(store: Store, job: Job) -> list[str]:
    """Return the keys of the progress events that are stored for a job."""
    records = await store.read(lambda c: read_events(c, Scope(ORGANIZATION, job_id=job.id), 0, 1000))
    return [event["key"] for event in (json.loads(record.event) for record in records) if event["type"] != "job"]


async def test_events_are_stored_in_order_and_acknowledged(store: Store) -> None:
    """The answer is the highest number stored."""
    agent, job = await running_job(store)
    assert await agent.report(job, step(1), step(2)) == {job.id: 2}
    assert await agent.report(job, step(3)) == {job.id: 3}
    assert await keys_of(store, job) == ["step/1", "step/2", "step/3"]
    assert (await agent.look(job)).acknowledged_seq == 3


async def test_events_sent_again_are_acknowledged_and_not_stored_again(store: Store) -> None:
    """The acknowledgement was lost, so the agent sends again from where it knows."""
    agent, job = await running_job(store)
    await agent.report(job, step(1), step(2), step(3))
    agent.sent[job.id] = 1
    assert await agent.report(job, step(2), step(3), step(4)) == {job.id: 4}
    agent.sent[job.id] = 0
    assert await agent.report(job, step(1)) == {job.id: 4}
    assert await keys_of(store, job) == ["step/1", "step/2", "step/3", "step/4"]


async def test_an_event_derived_again_under_a_new_number_is_not_doubled(store: Store) -> None:
    """An agent that lost its spool tells the story again; the key names the fact."""
    agent, job = await running_job(store)
    await agent.report(job, step(1), step(2))
    assert await agent.report(job, step(1), step(2), step(3)) == {job.id: 5}
    assert await keys_of(store, job) == ["step/1", "step/2", "step/3"]


async def test_a_gap_is_refused(store: Store) -> None:
    """What is missing would be lost for ever."""
    agent, job = await running_job(store)
    agent.sent[job.id] = 1
    assert await agent.report(job, step(2)) == {}
    assert await keys_of(store, job) == []


async def test_events_of_a_job_that_is_not_the_reporters_are_refused(store: Store) -> None:
    """Another session, an old token, a job that was not accepted yet, or one that has ended."""
    agent, job = await running_job(store)
    stranger = QueueActor(store, session_id="another")
    assert await stranger.report(job, step(1)) == {}
    old = agent.holding(job)
    report = Reported(type(old)(old.session_id, job.id, job.token - 1), [(1, "step/1", "{}")], None)
    assert await store.write(lambda c: record_progress(c, [([report], START)])) == [{}]
    await agent.finish(job)
    assert await agent.report(job, step(9)) == {}
    await store.write(deploy)
    leased = await agent.lease()
    assert leased is not None
    assert await agent.report(leased.job, step(1)) == {}


async def test_a_result_ends_its_job_with_its_facts(store: Store) -> None:
    """Outcome, code, cause and counts are what the API shows."""
    agent, job = await running_job(store)
    last = ResultEvent(
        key="result",
        at=START,
        outcome=Outcome.FAILED,
        code=ErrorCode.UNHEALTHY,
        cause="Pod shop/web-0: image not found",
        counts={Action.CREATED: 3, Action.FAILED: 1},
    )
    await agent.report(job, step(1), last)
    ended = await agent.look(job)
    assert (ended.state, ended.outcome, ended.code) == (JobState.FAILED, Outcome.FAILED, "unhealthy")
    assert (ended.cause, ended.counts) == ("Pod shop/web-0: image not found", {"created": 3, "failed": 1})
    assert ended.finished_at == START


@pytest.mark.parametrize(
    ("stop", "outcome", "ends"),
    [
        (None, Outcome.SUCCEEDED, JobState.SUCCEEDED),
        (None, Outcome.FAILED, JobState.FAILED),
        (None, Outcome.REFUSED, JobState.FAILED),
        (None, Outcome.CANCELLED, JobState.FAILED),
        ("cancel", Outcome.CANCELLED, JobState.CANCELLED),
        ("cancel", Outcome.SUCCEEDED, JobState.SUCCEEDED),
        ("cancel", Outcome.FAILED, JobState.FAILED),
        ("supersede", Outcome.SUPERSEDED, JobState.SUPERSEDED),
    ],
)
async def test_every_outcome_has_its_final_state(
    store: Store, stop: Stop | None, outcome: Outcome, ends: JobState
) -> None:
    """An agent that stops without having been asked has failed; one that had finished before has succeeded."""
    agent, job = await running_job(store)
    if stop is not None:
        await store.write(lambda c: stop_job(c, ORGANIZATION, job.id, stop, START))
    assert (await agent.finish(job, outcome)).state is ends


async def test_the_result_and_the_final_state_are_told_together(store: Store, bus: LocalBus) -> None:
    """A watcher that sees the result sees the end next, and nothing after it."""
    agent, job = await running_job(store)
    with bus.subscribe(Scope(ORGANIZATION, job_id=job.id)) as heard:
        await agent.report(job, step(1), result())
        told = [await heard.get() for _ in range(3)]
    stored = await store.read(lambda c: read_events(c, Scope(ORGANIZATION, job_id=job.id), 0, 1000))
    assert told == stored[-3:]
    assert [isinstance(one, EventRecord) and one.final for one in told] == [False, False, True]


async def test_what_many_agents_report_is_stored_together(make_store: MakeStore) -> None:
    """Each gets its own answer, the record of an end is the last of its story, and nothing comes after a result."""
    store = await make_store(LocalBus())
    await store.write(lambda c: seed(c, ("one", "two")))
    jobs, holdings = [], []
    for cluster in ("one", "two"):
        await store.write(lambda c, e=f"{cluster}-staging": deploy(c, e))
        agent = await connected(store, cluster)
        jobs.append(await agent.take())
        holdings.append(agent.holding(jobs[-1]))
    first = Reported(holdings[0], [(1, "step/1", step(1).model_dump_json())], None)
    end = Reported(holdings[0], [(2, "result", result().model_dump_json())], result())
    late = Reported(holdings[0], [(3, "step/3", step(3).model_dump_json())], None)
    other = Reported(holdings[1], [(1, "step/1", step(1).model_dump_json())], None)
    together = [([first], START), ([other], START + 1), ([end], START + 2), ([late], START + 3)]
    answers = await store.write(lambda c: record_progress(c, together))
    assert answers == [{jobs[0].id: 1}, {jobs[1].id: 1}, {jobs[0].id: 2}, {}]
    records = await store.read(lambda c: read_events(c, Scope(ORGANIZATION, job_id=jobs[0].id), 0, 99))
    told = [json.loads(record.event) for record in records]
    assert [one.get("key", one.get("state")) for one in told][3:] == ["step/1", "result", "succeeded"]
    assert [record.final for record in records] == [False] * 5 + [True]
    assert records[-1].recorded_at == START + 2
    assert await keys_of(store, jobs[1]) == ["step/1"]
