"""The relay before this revision goes on working after it: it adds, with defaults, and can be taken back."""

from __future__ import annotations

from sqlalchemy import Connection, inspect, text

from fairlead_relay.store import Store
from fairlead_relay.store.migrate import migrate
from tests.conformance.downgrading import downgrade


def _columns(connection: Connection) -> dict[str, set[str]]:
    inspector = inspect(connection)
    return {table: {one["name"] for one in inspector.get_columns(table)} for table in inspector.get_table_names()}


async def test_it_comes_and_goes_with_the_rows_in_place(store: Store) -> None:
    """Down takes exactly what it added; up again gives the rows that are there its defaults."""
    made = await store.write(_columns)
    await downgrade(store, "v0001")
    before = await store.write(_columns)
    assert "approvals" not in before
    assert made["clusters"] - before["clusters"] == {"require_approval", "disabled_at"}
    insert = text("INSERT INTO clusters (organization, name, created_at) VALUES ('acme', 'older', 1)")
    await store.write(lambda c: c.execute(insert))
    await store.write(migrate)
    assert await store.write(_columns) == made
    await store.write(lambda c: c.execute(text("UPDATE clusters SET created_at = 2 WHERE name = 'older'")))
    found = await store.read(lambda c: c.execute(text("SELECT require_approval FROM clusters")).scalars().all())
    assert not any(found)
