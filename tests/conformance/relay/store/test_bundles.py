"""Which bundles an organization may use."""

from __future__ import annotations

from fairlead_relay.store import Store
from fairlead_relay.store.bundles import Bundle, add_bundle, find_bundle, serves_cluster
from fairlead_relay.store.organizations import ensure_organization
from tests.conformance.domain import BUNDLES, ORGANIZATION, START, deploy
from tests.conformance.queue_actor import connected


async def test_a_bundle_belongs_to_who_stored_it(store: Store) -> None:
    """Knowing a hash gives nobody another tenant's content."""
    await store.write(lambda c: ensure_organization(c, "globex", START))
    bundle = Bundle("globex", "d" * 64, 1234, START)
    assert await store.write(lambda c: add_bundle(c, bundle)) is True
    assert await store.write(lambda c: add_bundle(c, bundle)) is False
    assert await store.read(lambda c: find_bundle(c, "globex", "d" * 64)) == bundle
    assert await store.read(lambda c: find_bundle(c, ORGANIZATION, "d" * 64)) is None


async def test_a_bundle_serves_a_cluster_while_a_job_deploys_it(store: Store) -> None:
    """An agent may fetch only what it was told to deploy, from the offer on."""
    await store.write(deploy)
    agent = await connected(store)
    assert not await store.read(lambda c: serves_cluster(c, ORGANIZATION, "one", BUNDLES[0]))
    await agent.lease()
    assert await store.read(lambda c: serves_cluster(c, ORGANIZATION, "one", BUNDLES[0]))
    assert not await store.read(lambda c: serves_cluster(c, ORGANIZATION, "one", BUNDLES[1]))
    assert not await store.read(lambda c: serves_cluster(c, ORGANIZATION, "two", BUNDLES[0]))
