"""The relay before this revision goes on working after it: it adds columns with defaults, and can be taken back."""

from __future__ import annotations

from sqlalchemy import Connection, inspect

from fairlead_relay.store import Store
from fairlead_relay.store.deployments import find_deployment
from fairlead_relay.store.migrate import migrate
from tests.conformance.domain import ORGANIZATION, deploy
from tests.conformance.downgrading import downgrade


def _columns(connection: Connection) -> set[str]:
    return {column["name"] for column in inspect(connection).get_columns("deployments")}


async def test_its_columns_come_and_go_with_the_rows_in_place(store: Store) -> None:
    """Nobody asked for the rollback of what was there before."""
    made = await store.write(deploy)
    there = await store.write(_columns)
    await downgrade(store, "v0012")
    assert there - await store.write(_columns) == {"rollback_on_failure", "rollback_of", "rollback_skipped"}
    await store.write(migrate)
    assert await store.write(_columns) == there
    assert await store.read(lambda c: find_deployment(c, ORGANIZATION, made.id)) == made
