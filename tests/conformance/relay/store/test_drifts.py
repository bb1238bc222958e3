"""Drift: whose reports are kept, which of them is shown, and when one is gone."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import func, select

from fairlead_relay.store import Store
from fairlead_relay.store.applications import create_environment, find_environment
from fairlead_relay.store.clusters import create_cluster, enrol_agent
from fairlead_relay.store.deletions import forget_environment
from fairlead_relay.store.drifts import Drift, count_drifted, find_drift, record_drift
from fairlead_relay.store.schema import drifts
from tests.conformance.domain import APPLICATION, BUNDLES, ORGANIZATION, START, deploy, enrolled, identity_of
from tests.conformance.queue_actor import QueueActor, connected

PLACE = (ORGANIZATION, APPLICATION, "one-staging")
DRIFT = Drift(1, BUNDLES[0], "report", 2, START, '{"objects": []}', START)


async def deployed(store: Store, bundle: str = BUNDLES[0], agent: QueueActor | None = None) -> QueueActor:
    """Return an agent that carried out a deployment of a bundle."""
    agent = agent or await connected(store)
    await store.write(lambda c: deploy(c, bundle=bundle))
    await agent.finish(await agent.take())
    return agent


async def report(store: Store, agent: QueueActor, drift: Drift, place: tuple[str, str, str] = PLACE) -> bool:
    """Report over an agent's connection, and tell whether it is kept."""
    return await store.write(lambda c: record_drift(c, agent.session_id, place, drift))


async def shown(store: Store, bundle: str = BUNDLES[0]) -> Drift | None:
    """Return what is shown of the environment if it runs a bundle."""
    return await store.read(lambda c: find_drift(c, PLACE, bundle))


async def test_the_newest_report_of_a_connection_counts(store: Store) -> None:
    """One that comes late, or again, changes nothing; the first of another connection does, whatever its number."""
    agent = await deployed(store)
    newer = replace(DRIFT, revision=3, objects=0, since=None, mode="correct")
    for drift, is_kept in ((DRIFT, True), (newer, True), (replace(DRIFT, revision=2), False), (newer, False)):
        assert await report(store, agent, drift) is is_kept
    assert await shown(store) == newer
    back = QueueActor(store, session_id="another connection")
    await back.connect()
    assert await report(store, back, DRIFT)
    assert await shown(store) == DRIFT


async def test_only_the_newest_connection_of_the_environments_agent_may_report(store: Store) -> None:
    """Not the agent of another cluster, not a connection that was replaced, and nothing of what is not there."""
    agent = await deployed(store)
    await store.write(lambda c: create_cluster(c, ORGANIZATION, "two", START))
    await store.write(lambda c: enrol_agent(c, identity_of("two"), enrolled(), START))
    stranger = await connected(store, "two")
    assert not await report(store, stranger, DRIFT)
    assert not await report(store, agent, DRIFT, ("others", *PLACE[1:]))
    assert not await report(store, agent, DRIFT, (*PLACE[:2], "nowhere"))
    await QueueActor(store, session_id="a newer connection").connect()
    assert not await report(store, agent, DRIFT)
    assert await store.read(lambda c: c.scalar(select(func.count()).select_from(drifts))) == 0


async def test_a_report_counts_while_what_it_is_about_runs(store: Store) -> None:
    """Of another bundle it is not shown, and counts again if that bundle is what runs."""
    agent = await deployed(store)
    assert await store.read(count_drifted) == 0
    await report(store, agent, DRIFT)
    assert await store.read(count_drifted) == 1
    await deployed(store, BUNDLES[1], agent)
    assert await shown(store, BUNDLES[1]) is None
    assert await store.read(count_drifted) == 0
    # The agent's report may come before the end of its deployment is stored.
    await report(store, agent, replace(DRIFT, revision=2, bundle_sha256=BUNDLES[2]))
    assert await store.read(count_drifted) == 0
    await deployed(store, BUNDLES[2], agent)
    assert await store.read(count_drifted) == 1
    await report(store, agent, replace(DRIFT, revision=3, bundle_sha256=BUNDLES[2], objects=0, since=None))
    assert await store.read(count_drifted) == 0


async def test_a_report_goes_with_its_environment(store: Store) -> None:
    """And one that comes late is not kept, so that the next of that name begins with none."""
    agent = await deployed(store)
    await report(store, agent, DRIFT)
    before = await store.read(lambda c: find_environment(c, *PLACE))
    await store.write(lambda c: forget_environment(c, PLACE, START + 10))
    assert await shown(store) is None
    assert not await report(store, agent, replace(DRIFT, revision=2))
    await store.write(lambda c: create_environment(c, replace(before, created_at=START + 20)))
    assert await shown(store) is None
