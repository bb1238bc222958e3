"""What is forgotten, and what never is."""

from __future__ import annotations

from sqlalchemy import select

from fairlead_relay.store import Store
from fairlead_relay.store.bundles import Bundle, add_bundle
from fairlead_relay.store.deployments import current_deployment
from fairlead_relay.store.jobs import enqueue_job
from fairlead_relay.store.retention import KEPT_DEPLOYMENTS, Forgettable, forget, forgettable, used_bundles
from fairlead_relay.store.schema import deployments, job_events, jobs
from fairlead_shared.progress import Outcome
from tests.conformance.domain import APPLICATION, BUNDLES, ORGANIZATION, START, deploy, health_job
from tests.conformance.queue_actor import connected

DAY = 86_400.0
MONTH = 30 * DAY
LATER = START + 31 * DAY


async def history(store: Store, *outcomes: Outcome, bundle: str = BUNDLES[0]) -> list[str]:
    """Carry out deployments one after the other; returns their ids, oldest first."""
    agent = await connected(store)
    ids = []
    for outcome in outcomes:
        made = await store.write(lambda c: deploy(c, bundle=bundle, deadline_seconds=90 * DAY))
        job = await agent.take()
        await agent.finish(job, outcome)
        ids.append(made.id)
    return ids


async def found(store: Store, now: float = LATER, limit: int = 1000) -> Forgettable:
    """Return what may go."""
    return await store.read(lambda c: forgettable(c, MONTH, now, limit))


async def test_old_deployments_go_with_their_jobs_and_events(store: Store) -> None:
    """The newest stay, however old; and nothing goes before its time."""
    ids = await history(store, *[Outcome.SUCCEEDED] * (KEPT_DEPLOYMENTS + 3))
    assert (await found(store, START + 29 * DAY)).deployments == ()
    what = await found(store)
    assert set(what.deployments) == set(ids[:3])
    assert len((await found(store, limit=2)).deployments) == 2
    assert (await store.write(lambda c: forget(c, what, LATER))).deployments == what.deployments
    left = await store.read(lambda c: set(c.scalars(select(deployments.c.id))))
    assert left == set(ids[3:])
    assert await store.read(lambda c: set(c.scalars(select(jobs.c.deployment_id)))) == left
    assert await store.read(lambda c: set(c.scalars(select(job_events.c.deployment_id)))) == left
    assert not (await found(store)).deployments


async def test_what_an_environment_runs_stays(store: Store) -> None:
    """Though everything since has failed, and its bundle with it."""
    (runs, *_) = await history(store, Outcome.SUCCEEDED)
    await history(store, *[Outcome.FAILED] * (KEPT_DEPLOYMENTS + 2), bundle=BUNDLES[1])
    what = await found(store)
    assert len(what.deployments) == 2
    assert runs not in what.deployments
    await store.write(lambda c: forget(c, what, LATER))
    current = await store.read(lambda c: current_deployment(c, ORGANIZATION, APPLICATION, "one-staging"))
    assert current is not None
    assert current.id == runs


async def test_what_has_not_ended_stays(store: Store) -> None:
    """Neither a waiting deployment nor one that was asked for again since it was found."""
    old = await history(store, *[Outcome.FAILED] * (KEPT_DEPLOYMENTS + 1))
    what = await found(store)
    assert what.deployments == (old[0],)
    again = health_job()
    await store.write(lambda c: enqueue_job(c, again, LATER))
    await store.write(lambda c: c.execute(jobs.update().where(jobs.c.id == again.id).values(deployment_id=old[0])))
    assert (await store.write(lambda c: forget(c, what, LATER))).deployments == ()
    assert old[0] in await store.read(lambda c: set(c.scalars(select(deployments.c.id))))


async def test_jobs_without_a_deployment_go_after_a_week(store: Store) -> None:
    """Once they ended."""
    agent = await connected(store)
    done, waiting = health_job(), health_job()
    await store.write(lambda c: enqueue_job(c, done, START))
    await agent.finish(await agent.take())
    await store.write(lambda c: enqueue_job(c, waiting, START))
    assert (await found(store, START + 6 * DAY)).jobs == ()
    what = await found(store, START + 8 * DAY)
    assert what.jobs == (done.id,)
    assert (await store.write(lambda c: forget(c, what, START + 8 * DAY))).jobs == (done.id,)
    assert await store.read(lambda c: c.scalars(select(jobs.c.id)).all()) == [waiting.id]


async def test_bundles_go_when_nothing_names_them(store: Store) -> None:
    """A day after their upload; one that was deployed in the meantime stays."""
    await store.write(lambda c: add_bundle(c, Bundle(ORGANIZATION, "d" * 64, 10, START)))
    await store.write(lambda c: deploy(c, bundle=BUNDLES[0]))
    assert (await found(store, START + 0.9 * DAY)).bundles == ()
    what = await found(store, START + 1.1 * DAY)
    assert {sha256 for _, sha256 in what.bundles} == {BUNDLES[1], BUNDLES[2], "d" * 64}
    await store.write(lambda c: deploy(c, bundle=BUNDLES[1]))
    gone = await store.write(lambda c: forget(c, what, START + 1.1 * DAY))
    assert {sha256 for _, sha256 in gone.bundles} == {BUNDLES[2], "d" * 64}
    hashes = [*BUNDLES, "d" * 64]
    assert await store.read(lambda c: used_bundles(c, hashes)) == {BUNDLES[0], BUNDLES[1]}
