"""Applications and environments: names, parents and pages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection

from fairlead_relay.errors import Conflict, NotFound
from fairlead_relay.store import Store
from fairlead_relay.store.applications import (
    Environment,
    create_application,
    create_environment,
    find_application,
    find_environment,
    list_applications,
    list_environments,
)
from fairlead_relay.store.clusters import (
    create_cluster,
    list_clusters,
)
from tests.conformance.domain import APPLICATION, ORGANIZATION, START


@pytest.mark.parametrize(
    ("create", "names"),
    [
        (lambda c: create_cluster(c, ORGANIZATION, "one", START), "cluster 'one'"),
        (lambda c: create_application(c, ORGANIZATION, APPLICATION, START), "application 'shop'"),
        (
            lambda c: create_environment(
                c, Environment(ORGANIZATION, APPLICATION, "one-staging", "staging", "one", "shop", START)
            ),
            "environment 'one-staging' of 'shop'",
        ),
    ],
)
async def test_a_taken_name_is_a_conflict(store: Store, create: Callable[[Connection], object], names: str) -> None:
    """The error names what is there."""
    with pytest.raises(Conflict, match=f"{names} exists already"):
        await store.write(create)


async def test_what_a_new_thing_belongs_to_must_exist(store: Store) -> None:
    """The first missing parent is named."""
    environment = Environment(ORGANIZATION, APPLICATION, "new", "staging", "nowhere", "shop", START)
    with pytest.raises(NotFound, match="no cluster is named 'nowhere'"):
        await store.write(lambda c: create_environment(c, environment))
    with pytest.raises(NotFound, match="no organization is named 'globex'"):
        await store.write(lambda c: create_cluster(c, "globex", "one", START))
    with pytest.raises(NotFound, match="no application is named 'mystery'"):
        await store.read(lambda c: find_environment(c, ORGANIZATION, "mystery", "one-staging"))
    with pytest.raises(NotFound, match="no environment is named 'mystery'"):
        await store.read(lambda c: find_environment(c, ORGANIZATION, APPLICATION, "mystery"))
    with pytest.raises(NotFound, match="no application is named 'mystery'"):
        await store.read(lambda c: find_application(c, ORGANIZATION, "mystery"))


async def test_lists_go_on_after_a_name(store: Store) -> None:
    """Pages neither repeat nor skip."""

    def make(connection: Connection) -> None:
        for name in ("c", "a", "b"):
            create_cluster(connection, ORGANIZATION, name, START)
            create_application(connection, ORGANIZATION, name, START)
            create_environment(
                connection, Environment(ORGANIZATION, APPLICATION, name, "staging", "one", "shop", START)
            )

    await store.write(make)
    clusters = await store.read(lambda c: list_clusters(c, ORGANIZATION, 3, "a"))
    assert [cluster.name for cluster in clusters] == ["b", "c", "one"]
    applications = await store.read(lambda c: list_applications(c, ORGANIZATION, 2))
    assert [application.name for application in applications] == ["a", "b"]
    environments = await store.read(lambda c: list_environments(c, ORGANIZATION, APPLICATION, 2, "b"))
    assert [environment.name for environment in environments] == ["c", "one-staging"]
