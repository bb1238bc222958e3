"""Retries: what may be tried again, what not and why, and what becomes of the deployment."""

from __future__ import annotations

import json

import pytest

from fairlead_relay.errors import Conflict, NotFound
from fairlead_relay.store import Store
from fairlead_relay.store.deployments import Deployment, current_deployment, find_deployment, rollback_target
from fairlead_relay.store.events import Scope, read_events
from fairlead_relay.store.jobs import find_job, stop_job, supersede_earlier
from fairlead_relay.store.leases import expire_overdue, refuse_job
from fairlead_relay.store.retries import retry_deployment
from fairlead_shared.errors import ErrorCode
from fairlead_shared.jobs import JobState
from fairlead_shared.progress import Outcome
from tests.conformance.domain import APPLICATION, BUNDLES, ORGANIZATION, RETRY_SECONDS, START, deploy
from tests.conformance.queue_actor import QueueActor, connected

PLACE = (ORGANIZATION, APPLICATION, "one-staging")


async def retried(store: Store, deployment: Deployment, now: float = START + 10) -> Deployment:
    """Try a deployment again."""
    job_id = f"{deployment.job.id}-again-{now:.0f}"
    return await store.write(lambda c: retry_deployment(c, ORGANIZATION, deployment.id, job_id, "other", now))


async def failed(store: Store, agent: QueueActor, bundle: str = BUNDLES[0]) -> Deployment:
    """Return a deployment that an agent took and that failed."""
    made = await store.write(lambda c: deploy(c, bundle=bundle))
    await agent.finish(await agent.take(), Outcome.FAILED)
    return made


async def test_a_failed_deployment_is_tried_again_by_a_job_of_its_own(store: Store) -> None:
    """With the next attempt, the same patience, and one story of both jobs."""
    agent = await connected(store)
    made = await failed(store, agent)
    again = await retried(store, made)
    assert again.job.id != made.job.id
    assert (again.job.state, again.job.attempt, again.job.deadline) == (JobState.QUEUED, 2, START + 10 + 3600)
    assert (again.job.wait_seconds, again.job.priority, again.job.exclusive) == (600, 0, True)
    assert (again.created_by, again.job.created_by) == ("token", "other")
    assert (await store.read(lambda c: find_job(c, ORGANIZATION, made.job.id))).state is JobState.FAILED
    agent.now = START + 10
    leased = await agent.lease()
    assert leased is not None
    assert (leased.job.id, leased.envelope is None, leased.bundle_bytes) == (again.job.id, False, 10)
    await agent.finish(await agent.accept(leased.job))
    assert (await store.read(lambda c: find_deployment(c, ORGANIZATION, made.id))).job.state is JobState.SUCCEEDED
    current = await store.read(lambda c: current_deployment(c, *PLACE))
    assert current is not None
    assert current.id == made.id
    records = await store.read(lambda c: read_events(c, Scope(ORGANIZATION, deployment_id=made.id), 0, 100))
    states = [
        (event["attempt"], event["state"])
        for event in map(json.loads, (one.event for one in records))
        if "state" in event
    ]
    assert states == [
        (1, "queued"), (1, "leased"), (1, "running"), (1, "failed"),
        (2, "queued"), (2, "leased"), (2, "running"), (2, "succeeded"),
    ]  # fmt: skip


async def test_one_that_expired_was_refused_or_cancelled_is_tried_again(store: Store) -> None:
    """The statement outlives the deadline for that; the new deadline never outlives the statement."""
    agent = await connected(store)
    made = await store.write(deploy)
    await store.write(lambda c: stop_job(c, ORGANIZATION, made.job.id, "cancel", START))
    second = await retried(store, made)
    await store.write(lambda c: expire_overdue(c, second.job.deadline))
    late = made.job.deadline + RETRY_SECONDS - 60
    third = await retried(store, made, late)
    assert (third.job.attempt, third.job.deadline) == (3, late + 60)
    agent.now = late
    leased = await agent.lease()
    assert leased is not None
    await store.write(lambda c: refuse_job(c, agent.holding(leased.job), ErrorCode.NOT_BOUND, "not bound", late))
    assert (await retried(store, made, late + 1)).job.attempt == 4


async def test_what_succeeded_waits_or_was_superseded_is_not_tried_again(store: Store) -> None:
    """Each with the reason."""
    agent = await connected(store)
    done = await store.write(deploy)
    await agent.finish(await agent.take())
    waits = await store.write(deploy)
    for one, state in ((done, "succeeded"), (waits, "queued")):
        with pytest.raises(Conflict, match=f"is {state}; only one that failed"):
            await retried(store, one)
    await store.write(lambda c: supersede_earlier(c, *PLACE, START))
    with pytest.raises(Conflict, match="is superseded; only one that failed"):
        await retried(store, waits)
    with pytest.raises(NotFound):
        await store.write(lambda c: retry_deployment(c, "globex", done.id, "job", "other", START))


async def test_one_whose_statement_has_expired_is_not_tried_again(store: Store) -> None:
    """Its agent would refuse it."""
    made = await failed(store, await connected(store))
    with pytest.raises(Conflict, match=r"expired at .*; deploy again"):
        await retried(store, made, made.job.deadline + RETRY_SECONDS)


async def test_one_after_which_another_was_taken_or_waits_is_not_tried_again(store: Store) -> None:
    """It would undo the newer one, and its agent would refuse that; one that nobody took is in nobody's way."""
    agent = await connected(store)
    made = await failed(store, agent)
    newer = await store.write(lambda c: deploy(c, bundle=BUNDLES[1]))
    with pytest.raises(Conflict, match=f"'{newer.id}' came after"):
        await retried(store, made)
    await store.write(lambda c: stop_job(c, ORGANIZATION, newer.job.id, "cancel", START))
    again = await retried(store, made)
    await store.write(lambda c: stop_job(c, ORGANIZATION, again.job.id, "cancel", START))
    await failed(store, agent, BUNDLES[1])
    with pytest.raises(Conflict, match="came after"):
        await retried(store, made)


async def test_a_rollback_knows_what_an_earlier_attempt_changed(store: Store) -> None:
    """A retry that still waits does not hide that its first attempt is what runs, half done."""
    agent = await connected(store)
    await store.write(deploy)
    await agent.finish(await agent.take())
    good = await store.write(lambda c: deploy(c, bundle=BUNDLES[1]))
    await agent.finish(await agent.take())
    await retried(store, await failed(store, agent, BUNDLES[2]))
    assert (await store.read(lambda c: rollback_target(c, *PLACE, None))).id == good.id
