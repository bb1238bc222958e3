"""The relay before this revision goes on working after it: it adds a table, which can be taken away again."""

from __future__ import annotations

from fairlead_relay.store import Store
from tests.conformance.downgrading import tables_of_revision


async def test_its_table_comes_and_goes(store: Store) -> None:
    """And nothing else with it."""
    assert await tables_of_revision(store, "v0012", before="v0011") == {"drifts"}
