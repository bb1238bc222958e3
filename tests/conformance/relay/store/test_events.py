"""Reading a story from any place in it."""

from __future__ import annotations

import json

from fairlead_relay.store import Store
from fairlead_relay.store.events import Scope, newest_position, read_between, read_events
from fairlead_relay.store.jobs import enqueue_job
from tests.conformance.domain import ORGANIZATION, START, deploy, health_job, step
from tests.conformance.queue_actor import connected


async def test_a_story_is_read_in_pages_from_any_position(store: Store) -> None:
    """Pages join without a gap or a repetition."""
    await store.write(deploy)
    agent = await connected(store)
    job = await agent.take()
    await agent.report(job, *(step(number) for number in range(1, 8)))
    scope = Scope(ORGANIZATION, job_id=job.id)
    whole = await store.read(lambda c: read_events(c, scope, 0, 1000))
    assert len(whole) == 10
    pages, after = [], 0
    while page := await store.read(lambda c, position=after: read_events(c, scope, position, 3)):
        pages.extend(page)
        after = page[-1].position
    assert pages == whole


async def test_a_scope_holds_what_belongs_to_it(store: Store) -> None:
    """A job's, a deployment's, an organization's, and nobody else's."""
    first = await store.write(deploy)
    second = await store.write(deploy)
    check = await store.write(lambda c: enqueue_job(c, health_job(), START))
    for scope, jobs in (
        (Scope(ORGANIZATION), [first.job.id, second.job.id, check.id]),
        (Scope(ORGANIZATION, deployment_id=second.id), [second.job.id]),
        (Scope(ORGANIZATION, job_id=check.id), [check.id]),
        (Scope("globex"), []),
        (Scope("globex", job_id=check.id), []),
    ):
        records = await store.read(lambda c, s=scope: read_events(c, s, 0, 1000))
        assert [record.job_id for record in records] == jobs
        assert all(scope.matches(record) for record in records)


async def test_a_record_is_what_the_api_shows(store: Store) -> None:
    """The event itself is passed on as it was stored."""
    deployment = await store.write(deploy)
    (record,) = await store.read(lambda c: read_events(c, Scope(ORGANIZATION), 0, 1000))
    assert json.loads(record.to_json()) == {
        "id": record.position,
        "deployment_id": deployment.id,
        "job_id": deployment.job.id,
        "attempt": 1,
        "recorded_at": "2026-11-18T11:06:40.000Z",
        "event": {"type": "job", "state": "queued", "attempt": 1, "reason": "", "at": START},
    }


async def test_records_are_read_between_two_positions(store: Store) -> None:
    """Of the organizations asked for, up to the last that is known to be committed."""
    assert await store.read(newest_position) == 0
    for _ in range(4):
        await store.write(deploy)
    newest = await store.read(newest_position)
    everything = await store.read(lambda c: read_events(c, Scope(ORGANIZATION), 0, 1000))
    assert newest == everything[-1].position
    first, last = everything[0].position, everything[2].position
    found = await store.read(lambda c: read_between(c, {ORGANIZATION, "globex"}, first, last, 10))
    assert found == everything[1:3]
    assert await store.read(lambda c: read_between(c, {ORGANIZATION}, 0, newest, 3)) == everything[:3]
    assert await store.read(lambda c: read_between(c, {"globex"}, 0, newest, 10)) == []
