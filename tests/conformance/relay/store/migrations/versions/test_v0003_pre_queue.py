"""The relay before this revision goes on working after it: it adds indexes, which can be taken away again."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect

from fairlead_relay.store import Store
from fairlead_relay.store.migrate import SCRIPTS, migrate
from tests.conformance.domain import deploy

ADDED = {"ix_jobs_succeeded_environment", "ix_jobs_organization_sequence"}


def _indexes(connection: Connection) -> set[str | None]:
    return {index["name"] for index in inspect(connection).get_indexes("jobs")}


async def test_its_indexes_come_and_go(store: Store) -> None:
    """With jobs stored before, between and after."""
    made = await store.write(_indexes)

    def down(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        config.attributes["connection"] = connection
        command.downgrade(config, "v0002")

    await store.write(deploy)
    await store.write(down)
    assert made - await store.write(_indexes) == ADDED
    await store.write(deploy)
    await store.write(migrate)
    await store.write(deploy)
    assert await store.write(_indexes) == made
