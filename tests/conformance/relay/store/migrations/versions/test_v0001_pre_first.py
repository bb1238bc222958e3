"""The first schema can be taken back, so that the migration is known to be complete."""

from __future__ import annotations

from sqlalchemy import Connection, inspect

from fairlead_relay.store import Store
from fairlead_relay.store.migrate import migrate
from tests.conformance.downgrading import downgrade


async def test_the_first_schema_comes_and_goes(store: Store) -> None:
    """Down leaves nothing but Alembic's own table; up again makes the same tables."""

    def tables(connection: Connection) -> set[str]:
        return set(inspect(connection).get_table_names())

    made = await store.write(tables)
    await downgrade(store, "base")
    assert await store.write(tables) == {"alembic_version"}
    await store.write(migrate)
    assert await store.write(tables) == made
