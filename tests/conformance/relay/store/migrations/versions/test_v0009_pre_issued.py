"""The relay before this revision goes on working after it: it adds a column with a default, and can be taken back."""

from __future__ import annotations

from sqlalchemy import Connection, inspect

from fairlead_relay.store import Store
from fairlead_relay.store.access import newest_made
from fairlead_relay.store.migrate import migrate
from tests.conformance.domain import START, identity_of
from tests.conformance.downgrading import downgrade


def _columns(connection: Connection) -> set[str]:
    return {column["name"] for column in inspect(connection).get_columns("agents")}


async def test_its_column_comes_and_goes_with_the_rows_in_place(store: Store) -> None:
    """Of agents that were there before, what was known before still counts."""
    made = await store.write(_columns)
    await downgrade(store, "v0008")
    assert made - await store.write(_columns) == {"issued_from"}
    await store.write(migrate)
    assert await store.write(_columns) == made
    assert await store.read(lambda c: newest_made(c, identity_of("one"))) == START
