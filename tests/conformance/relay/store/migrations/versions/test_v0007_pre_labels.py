"""The relay before this revision goes on working after it: it adds a table, which can be taken away again."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect

from fairlead_relay.store import Store
from fairlead_relay.store.migrate import SCRIPTS, migrate


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


async def test_its_table_comes_and_goes(store: Store) -> None:
    """With those of later revisions, and nothing else."""
    made = await store.write(_tables)

    def down(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        config.attributes["connection"] = connection
        command.downgrade(config, "v0006")

    await store.write(down)
    assert made - await store.write(_tables) == {"labels", "audit_records"}
    await store.write(migrate)
    assert await store.write(_tables) == made
