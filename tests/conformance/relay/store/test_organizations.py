"""Organizations: the tenants."""

from __future__ import annotations

import pytest

from fairlead_relay.errors import NotFound
from fairlead_relay.store import Store
from fairlead_relay.store.applications import (
    create_application,
    find_environment,
)
from fairlead_relay.store.clusters import (
    create_cluster,
    find_cluster,
)
from fairlead_relay.store.organizations import ensure_organization, find_organization
from tests.conformance.domain import APPLICATION, ORGANIZATION, START


async def test_an_organization_is_made_once(store: Store) -> None:
    """Asking for it again finds the first."""
    first = await store.write(lambda c: ensure_organization(c, "globex", START))
    assert await store.write(lambda c: ensure_organization(c, "globex", START + 5)) == first
    with pytest.raises(NotFound, match="no organization is named 'initech'"):
        await store.read(lambda c: find_organization(c, "initech"))


async def test_names_belong_to_their_organization(store: Store) -> None:
    """Two tenants may use the same names and never see each other's."""
    await store.write(lambda c: ensure_organization(c, "globex", START))
    await store.write(lambda c: create_cluster(c, "globex", "one", START))
    await store.write(lambda c: create_application(c, "globex", APPLICATION, START))
    assert (await store.read(lambda c: find_cluster(c, "globex", "one"))).agent is None
    assert (await store.read(lambda c: find_cluster(c, ORGANIZATION, "one"))).agent is not None
    with pytest.raises(NotFound):
        await store.read(lambda c: find_environment(c, "globex", APPLICATION, "one-staging"))
