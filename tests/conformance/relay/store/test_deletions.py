"""Deleted environments: what there is to destroy, when one is gone, and its name used again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Connection

from fairlead_relay.errors import Conflict, NotFound
from fairlead_relay.store import Store
from fairlead_relay.store.applications import create_environment, find_environment, list_environments
from fairlead_relay.store.deletions import (
    forget_environment,
    reported_hooks,
    reported_objects,
    unfinished_deployments,
    used_namespaces,
)
from fairlead_relay.store.deployments import current_deployment, find_deployment, running_bundles
from fairlead_relay.store.jobs import stop_job
from fairlead_relay.store.retries import retry_deployment
from fairlead_relay.store.schema import jobs
from fairlead_shared.jobs import JobKind, JobState
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import Action, ObjectEvent, Outcome
from tests.conformance.domain import APPLICATION, BUNDLES, ORGANIZATION, START, deploy, result
from tests.conformance.queue_actor import QueueActor, connected

PLACE = (ORGANIZATION, APPLICATION, "one-staging")


async def destroyed(store: Store, agent: QueueActor, outcome: Outcome) -> JobState:
    """Carry out a deployment that destroys, and return how its job ended."""

    def destroy(connection: Connection) -> str:
        made = deploy(connection)
        connection.execute(jobs.update().where(jobs.c.id == made.job.id).values(kind=JobKind.DESTROY))
        return made.id

    deployment_id = await store.write(destroy)
    running = await store.read(lambda c: running_bundles(c, {PLACE}))
    assert running[PLACE].destroyed_by == deployment_id
    return (await agent.finish(await agent.take(), outcome)).state


async def test_an_environment_is_gone_once_it_was_destroyed(store: Store) -> None:
    """Not before, and not if that failed; its history stays."""
    agent = await connected(store)
    made = await store.write(deploy)
    await agent.finish(await agent.take())
    assert await destroyed(store, agent, Outcome.FAILED) is JobState.FAILED
    assert (await store.read(lambda c: find_environment(c, *PLACE))).name == PLACE[2]
    assert await destroyed(store, agent, Outcome.SUCCEEDED) is JobState.SUCCEEDED
    with pytest.raises(NotFound):
        await store.read(lambda c: find_environment(c, *PLACE))
    assert await store.read(lambda c: list_environments(c, *PLACE[:2], 9)) == []
    assert await store.read(lambda c: running_bundles(c, {PLACE})) == {}
    assert (await store.read(lambda c: find_deployment(c, ORGANIZATION, made.id))).job.state is JobState.SUCCEEDED


async def test_the_name_of_a_deleted_environment_can_be_used_again(store: Store) -> None:
    """On another namespace, and nothing that ran before counts as running."""
    agent = await connected(store)
    await store.write(deploy)
    await agent.finish(await agent.take())
    failed = await store.write(deploy)
    await agent.finish(await agent.take(), Outcome.FAILED)
    before = await store.read(lambda c: find_environment(c, *PLACE))
    with pytest.raises(Conflict, match="exists already"):
        await store.write(lambda c: create_environment(c, before))
    await store.write(lambda c: forget_environment(c, PLACE, START + 10))
    with pytest.raises(NotFound):
        await store.write(lambda c: retry_deployment(c, ORGANIZATION, failed.id, "job", "token", START))
    again = replace(before, namespace="elsewhere", created_at=START + 20)
    await store.write(lambda c: create_environment(c, again))
    assert await store.read(lambda c: find_environment(c, *PLACE)) == again
    assert await store.read(lambda c: current_deployment(c, *PLACE)) is None
    assert (await store.read(lambda c: running_bundles(c, {PLACE})))[PLACE].bundle_sha256 is None


async def test_an_environment_with_a_deployment_under_way_is_not_forgotten(store: Store) -> None:
    """Its objects would be changed by something that nobody sees."""
    made = await store.write(deploy)
    assert await store.read(lambda c: unfinished_deployments(c, PLACE)) == [made.id]
    with pytest.raises(Conflict, match=f"'{made.id}' has not ended"):
        await store.write(lambda c: forget_environment(c, PLACE, START))
    await store.write(lambda c: stop_job(c, ORGANIZATION, made.job.id, "cancel", START))
    await store.write(lambda c: forget_environment(c, PLACE, START))


async def test_the_plan_is_what_agents_reported_and_signers_named(store: Store) -> None:
    """Of the last deployment that succeeded, what it made or found; not what it pruned."""
    assert await store.read(lambda c: reported_objects(c, PLACE, 9)) == []
    assert await store.read(lambda c: used_namespaces(c, PLACE)) == set()
    agent = await connected(store)
    await store.write(lambda c: deploy(c, bundle=BUNDLES[0]))
    job = await agent.take()
    refs = [ObjectRef(api_version="v1", kind="ConfigMap", namespace="shop", name=name) for name in "abcd"]
    actions = (Action.CREATED, Action.UNCHANGED, Action.PRUNED, Action.SKIPPED)
    await agent.report(
        job,
        *(
            ObjectEvent(key=f"object/{ref}/{action}", at=START, object=ref, action=action)
            for ref, action in zip(refs, actions, strict=True)
        ),
        result(),
    )
    assert await store.read(lambda c: reported_objects(c, PLACE, 9)) == refs[:2]
    assert await store.read(lambda c: reported_objects(c, PLACE, 1)) == refs[:1]
    assert await store.read(lambda c: used_namespaces(c, PLACE)) == {"shop"}


async def test_the_plan_names_each_hook_that_was_left_for_the_deletion(store: Store) -> None:
    """With its moment, in the words in which agents tell it; an older one knows no moment."""
    assert await store.read(lambda c: reported_hooks(c, PLACE, 9)) == []
    agent = await connected(store)
    await store.write(lambda c: deploy(c, bundle=BUNDLES[0]))
    job = await agent.take()
    refs = [ObjectRef(api_version="batch/v1", kind="Job", namespace="shop", name=name) for name in "abcdef"]
    details = (
        "hook: runs only before deletion",
        "hook: runs before, and after deletion, weight 3",
        "hook: runs only in a first deployment or before and after deletion",
        "hook: runs only at deletion",
        "hook: runs only in a rollback",
        "changed before deletion",
    )
    told = (
        ObjectEvent(key=f"object/{ref}", at=START, object=ref, action=Action.SKIPPED, detail=detail)
        for ref, detail in zip(refs, details, strict=True)
    )
    await agent.report(job, *told, result())
    moments = ["before deletion", "after deletion", "before and after deletion", "at deletion"]
    assert await store.read(lambda c: reported_hooks(c, PLACE, 9)) == list(zip(refs, moments, strict=False))
    assert await store.read(lambda c: reported_hooks(c, PLACE, 1)) == [(refs[0], moments[0])]
