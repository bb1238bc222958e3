"""Labels: changed by whoever has seen the last change, selected in pages, and gone with the thing they were of."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from fairlead_relay.errors import Outdated
from fairlead_relay.store import Store, labels
from fairlead_relay.store.clusters import Cluster, create_cluster, list_clusters
from fairlead_relay.store.label_selectors import Selector
from fairlead_relay.store.labels import (
    NO_LABELS,
    Labelled,
    Labels,
    change_labels,
    find_labels,
    select_labelled,
    start_labels,
)
from fairlead_shared.errors import NameInvalid
from tests.conformance.domain import APPLICATION, ORGANIZATION, START

CLUSTER = Labelled(ORGANIZATION, "cluster", "one")


async def test_a_change_leaves_other_labels_and_raises_the_revision(store: Store) -> None:
    """Of this thing only: an application of the same name has its own."""
    assert await store.read(lambda c: find_labels(c, CLUSTER)) == NO_LABELS
    made = await store.write(lambda c: start_labels(c, CLUSTER, {"tier": "gold", "team": "a"}))
    assert made == Labels({"team": "a", "tier": "gold"}, 1)
    changed = await store.write(lambda c: change_labels(c, CLUSTER, {"team": None, "at": "sea"}, frozenset({1})))
    assert changed == Labels({"at": "sea", "tier": "gold"}, 2)
    assert await store.read(lambda c: find_labels(c, CLUSTER)) == changed
    other = Labelled(ORGANIZATION, "application", "one")
    assert await store.read(lambda c: find_labels(c, other)) == NO_LABELS
    environment = Labelled(ORGANIZATION, "environment", "one", APPLICATION)
    assert (await store.write(lambda c: change_labels(c, environment, {"a": "b"}, frozenset({0})))).revision == 1


async def test_a_change_of_what_somebody_else_changed_is_refused(store: Store) -> None:
    """Unless it is to be made whatever there is."""
    await store.write(lambda c: start_labels(c, CLUSTER, {"tier": "gold"}))
    await store.write(lambda c: change_labels(c, CLUSTER, {"tier": "silver"}, frozenset({1})))
    with pytest.raises(Outdated, match="cluster 'one' was changed by somebody else"):
        await store.write(lambda c: change_labels(c, CLUSTER, {"tier": "bronze"}, frozenset({0, 1})))
    changed = await store.write(lambda c: change_labels(c, CLUSTER, {"tier": "bronze"}, None))
    assert changed == Labels({"tier": "bronze"}, 3)
    with pytest.raises(NameInvalid):
        await store.write(lambda c: change_labels(c, CLUSTER, {"not valid": "x"}, None))
    assert await store.read(lambda c: find_labels(c, CLUSTER)) == changed


async def test_a_new_thing_has_none_of_an_earlier_ones_labels(store: Store) -> None:
    """And an ETag of the earlier one is good for nothing."""
    await store.write(lambda c: start_labels(c, CLUSTER, {"tier": "gold"}))
    assert await store.write(lambda c: start_labels(c, CLUSTER, {})) == Labels({}, 2)


async def test_what_a_selector_finds_comes_in_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far apart it is, in order, each once."""
    monkeypatch.setattr(labels, "_SCANNED", 4)

    def make(connection: Connection) -> None:
        for number in range(30):
            name = f"c{number:02}"
            create_cluster(connection, ORGANIZATION, name, START)
            of = Labelled(ORGANIZATION, "cluster", name)
            start_labels(connection, of, {"third": "yes"} if number % 3 == 0 else {})

    await store.write(make)

    def select(connection: Connection, after: str | None, selector: Selector | None) -> list[str]:
        def fetch(most: int, last: str | None) -> list[Cluster]:
            return list_clusters(connection, ORGANIZATION, most, last)

        of = Labelled(ORGANIZATION, "cluster")
        rows = select_labelled(connection, of, selector, 3, after, fetch, lambda row: row.name)
        return [row.name for row, _ in rows]

    for selector, wanted in (
        (Selector.parse("third=yes"), [f"c{number:02}" for number in range(0, 30, 3)]),
        (Selector.parse("!third"), [*(f"c{number:02}" for number in range(30) if number % 3), "one"]),
        (None, [*(f"c{number:02}" for number in range(30)), "one"]),
    ):
        found: list[str] = []
        last: str | None = None
        while page := await store.read(lambda c, s=selector, after=last: select(c, after, s)):
            found += page
            last = found[-1]
        assert found == wanted
