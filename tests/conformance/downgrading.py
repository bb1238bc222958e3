"""A store taken back to an earlier revision of its schema, as only tests do."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect

from fairlead_relay.store import Store
from fairlead_relay.store.migrate import SCRIPTS, migrate


async def downgrade(store: Store, revision: str) -> None:
    """Take a store back to a revision."""

    def down(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        config.attributes["connection"] = connection
        command.downgrade(config, revision)

    await store.write(down)


async def tables_of_revision(store: Store, revision: str, *, before: str) -> set[str]:
    """Return the tables that go with one revision; holds that all are there again once the store is migrated."""
    made = await store.write(_tables)
    await downgrade(store, revision)
    there = await store.write(_tables)
    await downgrade(store, before)
    gone = there - await store.write(_tables)
    await store.write(migrate)
    assert await store.write(_tables) == made
    return gone


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())
