"""Relays that share a store, and what becomes of one that died for good."""

from __future__ import annotations

from fairlead_relay.bus import LocalBus
from fairlead_relay.store import Store
from fairlead_relay.store.clusters import find_cluster
from fairlead_relay.store.jobs import find_job
from fairlead_relay.store.relays import beat, bury, leave
from fairlead_relay.store.sessions import NewSession, close_session, open_session
from fairlead_shared.jobs import JobState
from tests.conformance.conftest import MakeStore
from tests.conformance.domain import ORGANIZATION, START, deploy, hello, identity_of, seed
from tests.conformance.queue_actor import connected


async def test_each_counts_on_and_sees_the_others(store: Store) -> None:
    """Also one that comes back after it was taken for dead."""
    assert await store.write(lambda c: beat(c, "first")) == {}
    assert await store.write(lambda c: beat(c, "second")) == {"first": 1}
    assert await store.write(lambda c: beat(c, "first")) == {"second": 1}
    assert await store.write(lambda c: beat(c, "second")) == {"first": 2}
    await store.write(lambda c: bury(c, {"first": 2}, START))
    assert await store.write(lambda c: beat(c, "second")) == {}
    assert await store.write(lambda c: beat(c, "first")) == {"second": 3}


async def test_one_that_stops_in_order_is_not_taken_for_dead(make_store: MakeStore) -> None:
    """It is no longer among the relays, unless a session of it is left: then the others are to find that out."""
    store = await make_store(LocalBus())
    await store.write(lambda c: seed(c, ("one",)))
    await store.write(lambda c: beat(c, "relay-1"))
    agent = await connected(store)
    await store.write(lambda c: leave(c, "relay-1"))
    assert await store.write(lambda c: beat(c, "relay-2")) == {"relay-1": 1}
    await store.write(lambda c: close_session(c, agent.session_id, START))
    await store.write(lambda c: leave(c, "relay-1"))
    assert await store.write(lambda c: beat(c, "relay-2")) == {}


async def test_what_a_dead_relay_held_is_given_up_and_nothing_else(make_store: MakeStore) -> None:
    """Its agents are offline, and their jobs wait for them; a relay that counted on meanwhile keeps its own."""
    store = await make_store(LocalBus())
    await store.write(lambda c: seed(c, ("one", "two")))
    await store.write(lambda c: beat(c, "relay-1"))
    dead = await connected(store)
    alive = NewSession("session-of-two", "relay-2", identity_of("two"))
    await store.write(lambda c: open_session(c, alive, hello(), 60, START))
    await store.write(deploy)
    job = await dead.take()
    assert await store.write(lambda c: bury(c, {"relay-1": 0, "relay-2": 1}, START)) == []
    (lost,) = await store.write(lambda c: bury(c, {"relay-1": 1}, START))
    assert (lost.id, lost.state, lost.reason) == (job.id, JobState.UNREACHABLE, "its agent's relay is gone")
    assert (await store.read(lambda c: find_job(c, ORGANIZATION, job.id))).holder is None
    states = [(await store.read(lambda c, n=name: find_cluster(c, ORGANIZATION, n))).state for name in ("one", "two")]
    assert states == ["offline", "connected"]
