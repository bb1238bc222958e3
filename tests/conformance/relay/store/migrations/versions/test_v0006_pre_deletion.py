"""The relay before this revision goes on working after it: it adds a column, which can be taken away again."""

from __future__ import annotations

from sqlalchemy import Connection, inspect

from fairlead_relay.store import Store
from fairlead_relay.store.applications import list_environments
from fairlead_relay.store.migrate import migrate
from tests.conformance.domain import APPLICATION, ORGANIZATION
from tests.conformance.downgrading import downgrade


def _columns(connection: Connection) -> set[str]:
    return {column["name"] for column in inspect(connection).get_columns("environments")}


async def test_its_column_comes_and_goes_with_the_rows_in_place(store: Store) -> None:
    """Environments that were there before are not deleted."""
    made = await store.write(_columns)
    await downgrade(store, "v0005")
    assert made - await store.write(_columns) == {"deleted_at"}
    await store.write(migrate)
    assert await store.write(_columns) == made
    found = await store.read(lambda c: list_environments(c, ORGANIZATION, APPLICATION, 9))
    assert [environment.name for environment in found] == ["one-staging"]
