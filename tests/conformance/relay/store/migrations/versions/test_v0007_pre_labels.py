"""The relay before this revision goes on working after it: it adds a table, which can be taken away again."""

from __future__ import annotations

from sqlalchemy import Connection, inspect

from fairlead_relay.store import Store
from fairlead_relay.store.migrate import migrate
from tests.conformance.downgrading import downgrade


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


async def test_its_table_comes_and_goes(store: Store) -> None:
    """And nothing else with it."""
    made = await store.write(_tables)
    await downgrade(store, "v0007")
    there = await store.write(_tables)
    await downgrade(store, "v0006")
    assert there - await store.write(_tables) == {"labels"}
    await store.write(migrate)
    assert await store.write(_tables) == made
