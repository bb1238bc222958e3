"""Plans: a job with a statement and a bundle, and no deployment."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import func, select

from fairlead_relay.store import Store
from fairlead_relay.store.bundles import serves_cluster
from fairlead_relay.store.plans import NewPlan, ask_for_plan, plan_content
from fairlead_relay.store.retention import BUNDLE_GRACE_SECONDS, LOOSE_SECONDS, forget, forgettable
from fairlead_relay.store.schema import deployments, plans
from fairlead_shared.jobs import JobKind
from tests.conformance.domain import BUNDLES, ENVELOPE, ORGANIZATION, START, deploy, health_job
from tests.conformance.queue_actor import connected


def plan() -> NewPlan:
    """Return a plan of a bundle."""
    return NewPlan(replace(health_job(), kind=JobKind.PLAN), BUNDLES[1], ENVELOPE)


async def test_a_plan_is_offered_with_its_statement_beside_a_deployment(store: Store) -> None:
    """It changes nothing, so that it takes no turn; and it leaves no deployment."""
    await store.write(deploy)
    asked = plan()
    job = await store.write(lambda c: ask_for_plan(c, asked, START))
    assert await store.read(lambda c: plan_content(c, job.id)) == (ENVELOPE, 10)
    agent = await connected(store)
    await agent.take()
    leased = await agent.lease()
    assert leased is not None
    assert (leased.job.id, leased.job.kind, leased.job.deployment_id) == (job.id, JobKind.PLAN, None)
    assert (leased.envelope, leased.bundle_bytes) == (ENVELOPE, 10)
    assert await store.read(lambda c: c.scalar(select(func.count()).select_from(deployments))) == 1


async def test_an_agent_may_fetch_the_bundle_of_a_plan_until_it_ends(store: Store) -> None:
    """Only that cluster's, as with deployments."""
    asked = plan()
    await store.write(lambda c: ask_for_plan(c, asked, START))
    agent = await connected(store)
    job = await agent.take()
    assert await store.read(lambda c: serves_cluster(c, ORGANIZATION, "one", BUNDLES[1]))
    assert not await store.read(lambda c: serves_cluster(c, ORGANIZATION, "one", BUNDLES[0]))
    assert not await store.read(lambda c: serves_cluster(c, ORGANIZATION, "two", BUNDLES[1]))
    await agent.finish(job)
    assert not await store.read(lambda c: serves_cluster(c, ORGANIZATION, "one", BUNDLES[1]))


async def test_a_bundle_stays_as_long_as_a_plan_of_it(store: Store) -> None:
    """And the plan as long as other jobs without a deployment."""
    asked = plan()
    await store.write(lambda c: ask_for_plan(c, asked, START))
    agent = await connected(store)
    await agent.finish(await agent.take())
    soon, late = START + 2 * BUNDLE_GRACE_SECONDS, START + LOOSE_SECONDS + BUNDLE_GRACE_SECONDS
    what = await store.read(lambda c: forgettable(c, 0, soon, 10))
    assert BUNDLES[1] not in {sha256 for _, sha256 in what.bundles}
    what = await store.read(lambda c: forgettable(c, 0, late, 10))
    assert what.jobs == (asked.job.id,)
    await store.write(lambda c: forget(c, what, late))
    assert await store.read(lambda c: c.scalar(select(func.count()).select_from(plans))) == 0
    what = await store.read(lambda c: forgettable(c, 0, late, 10))
    assert BUNDLES[1] in {sha256 for _, sha256 in what.bundles}
