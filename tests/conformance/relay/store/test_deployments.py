"""Deployments: made once, listed newest first, and what a rollback goes back to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Connection, func, select, text

from fairlead_relay.errors import Conflict, NotFound
from fairlead_relay.store import Store
from fairlead_relay.store.deployments import (
    _CURRENT,
    Deployment,
    NewDeployment,
    create_deployment,
    current_deployment,
    find_deployment,
    known_deployment,
    list_deployments,
    rollback_target,
    running_bundles,
)
from fairlead_relay.store.organizations import ensure_organization
from fairlead_relay.store.schema import jobs
from fairlead_shared.jobs import JobKind
from fairlead_shared.progress import Action, Outcome
from tests.conformance.domain import APPLICATION, BUNDLES, ORGANIZATION, START, deploy, health_job
from tests.conformance.queue_actor import QueueActor, connected

ENVIRONMENT = (ORGANIZATION, APPLICATION, "one-staging")


async def deployed(
    store: Store,
    agent: QueueActor,
    bundle: str,
    outcome: Outcome = Outcome.SUCCEEDED,
    counts: dict[Action, int] | None = None,
) -> Deployment:
    """Return a deployment of a bundle that has ended."""
    deployment = await store.write(lambda c: deploy(c, bundle=bundle))
    await agent.finish(await agent.take(), outcome, counts)
    return await store.read(lambda c: find_deployment(c, ORGANIZATION, deployment.id))


async def test_a_deployment_is_read_as_it_was_made(store: Store) -> None:
    """The answer to the client that made it is what later readers see."""
    made = await store.write(deploy)
    assert await store.read(lambda c: find_deployment(c, ORGANIZATION, made.id)) == made
    assert (made.bundle_sha256, made.job.deployment_id, made.created_at) == (BUNDLES[0], made.id, START)
    with pytest.raises(NotFound):
        await store.read(lambda c: find_deployment(c, "globex", made.id))


async def test_a_repeated_request_finds_its_deployment(store: Store) -> None:
    """The same id with another request, or of another tenant, is a conflict that tells nothing."""
    await store.write(lambda c: ensure_organization(c, "globex", START))
    made = await store.write(deploy)
    assert await store.write(lambda c: known_deployment(c, ORGANIZATION, made.id, "request")) == made
    assert await store.write(lambda c: known_deployment(c, ORGANIZATION, "deployment-new", "request")) is None
    for organization, request in ((ORGANIZATION, "another"), ("globex", "request")):
        with pytest.raises(Conflict, match="was used for another request; make a new one"):
            await store.write(lambda c, o=organization, r=request: known_deployment(c, o, made.id, r))


async def test_deployments_are_listed_newest_first_in_pages(store: Store) -> None:
    """Pages join without a gap or a repetition."""
    made = [await store.write(deploy) for _ in range(5)]
    first = await store.read(lambda c: list_deployments(c, *ENVIRONMENT, limit=2))
    rest = await store.read(lambda c: list_deployments(c, *ENVIRONMENT, limit=9, before=first[-1].sequence))
    assert [one.id for one in first + rest] == [one.id for one in reversed(made)]


async def test_the_current_deployment_is_the_newest_that_succeeded(store: Store) -> None:
    """A failed one does not replace it."""
    agent = await connected(store)
    assert await store.read(lambda c: current_deployment(c, *ENVIRONMENT)) is None
    good = await deployed(store, agent, BUNDLES[0])
    await deployed(store, agent, BUNDLES[1], Outcome.FAILED)
    assert await store.read(lambda c: current_deployment(c, *ENVIRONMENT)) == good


async def test_the_current_deployment_is_found_without_a_scan(store: Store) -> None:
    """However many wait or failed since: every deployment asks for it."""
    agent = await connected(store)
    await deployed(store, agent, BUNDLES[2])
    for _ in range(3):
        await store.write(deploy)
    running = await store.read(lambda c: running_bundles(c, {ENVIRONMENT, (ORGANIZATION, APPLICATION, "mystery")}))
    assert {place: found.bundle_sha256 for place, found in running.items()} == {ENVIRONMENT: BUNDLES[2]}
    of = dict(zip(("of_organization", "of_application", "of_environment"), ENVIRONMENT, strict=True))

    compiled = _CURRENT.compile()

    def plan(connection: Connection) -> str:
        if connection.dialect.name == "postgresql":
            # The table is so small that reading all of it would be right.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN" if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
        return str(connection.execute(text(f"{explain} {compiled}"), {**compiled.params, **of}).all())

    assert "ix_jobs_succeeded_environment" in await store.read(plan)


async def test_a_rollback_goes_back_to_the_newest_other_bundle_that_succeeded(store: Store) -> None:
    """Neither to a failed one nor to the bundle an agent took last, which changed the cluster even if it failed."""
    agent = await connected(store)
    with pytest.raises(Conflict, match="nothing was deployed successfully yet"):
        await store.read(lambda c: rollback_target(c, *ENVIRONMENT, None))
    first = await deployed(store, agent, BUNDLES[0])
    with pytest.raises(Conflict, match="no earlier deployment that succeeded ran another bundle"):
        await store.read(lambda c: rollback_target(c, *ENVIRONMENT, None))
    await deployed(store, agent, BUNDLES[2], Outcome.FAILED)
    assert await store.read(lambda c: rollback_target(c, *ENVIRONMENT, None)) == first
    await deployed(store, agent, BUNDLES[1])
    await deployed(store, agent, BUNDLES[1])
    assert await store.read(lambda c: rollback_target(c, *ENVIRONMENT, None)) == first


async def test_a_rollback_after_a_failure_goes_back_to_the_last_success(store: Store) -> None:
    """What failed half-way is what runs, so the newest success is what was before it."""
    agent = await connected(store)
    await deployed(store, agent, BUNDLES[0])
    good = await deployed(store, agent, BUNDLES[1])
    await deployed(store, agent, BUNDLES[2], Outcome.FAILED)
    await store.write(lambda c: deploy(c, bundle=BUNDLES[0]))
    assert await store.read(lambda c: rollback_target(c, *ENVIRONMENT, None)) == good


async def test_a_rollback_passes_over_redeployments_of_the_same_content(store: Store) -> None:
    """Sealing a Secret again gives another hash; what found everything unchanged is no step to go back."""
    agent = await connected(store)
    first = await deployed(store, agent, BUNDLES[0], counts={Action.CREATED: 2})
    await deployed(store, agent, BUNDLES[1], counts={Action.CHANGED: 1, Action.UNCHANGED: 1})
    await deployed(store, agent, BUNDLES[2], counts={Action.UNCHANGED: 2})
    assert await store.read(lambda c: rollback_target(c, *ENVIRONMENT, None)) == first


async def test_a_rollback_may_name_a_deployment_that_succeeded(store: Store) -> None:
    """Of the same environment."""
    agent = await connected(store)
    good = await deployed(store, agent, BUNDLES[0])
    bad = await deployed(store, agent, BUNDLES[1], Outcome.FAILED)
    assert await store.read(lambda c: rollback_target(c, *ENVIRONMENT, good.id)) == good
    with pytest.raises(Conflict, match=f"deployment '{bad.id}' did not succeed"):
        await store.read(lambda c: rollback_target(c, *ENVIRONMENT, bad.id))
    with pytest.raises(NotFound):
        await store.read(lambda c: rollback_target(c, ORGANIZATION, APPLICATION, "another", good.id))


async def test_a_deployment_is_as_far_as_its_job(store: Store) -> None:
    """It has no state of its own that could disagree."""
    made = await store.write(deploy)
    agent = await connected(store)
    job = await agent.take()
    assert await store.read(lambda c: find_deployment(c, ORGANIZATION, made.id)) == replace(made, job=job)


async def test_storing_the_same_deployment_again_queues_nothing(store: Store) -> None:
    """Two requests that cross each other make one deployment with one job."""

    def twice(connection: Connection) -> tuple[Deployment, Deployment]:
        made = deploy(connection)
        new = NewDeployment(
            id=made.id,
            organization=made.organization,
            application=made.application,
            environment=made.environment,
            environment_type=made.environment_type,
            cluster=made.cluster,
            bundle_sha256=made.bundle_sha256,
            previous_bundle_sha256=None,
            rollback=False,
            statement=b"{}",
            envelope="{}",
            origins="{}",
            request_sha256=made.request_sha256,
        )
        job = replace(health_job(), kind=JobKind.DEPLOY, deployment_id=made.id, exclusive=True)
        return made, create_deployment(connection, new, job, START)

    made, again = await store.write(twice)
    assert again == made
    assert await store.read(lambda c: c.scalar(select(func.count()).select_from(jobs))) == 1
