"""The migrated schema is the one in the code, and old and newer databases are told apart."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from fairlead_relay.bus import LocalBus
from fairlead_relay.errors import StoreUnusable
from fairlead_relay.store import Store
from fairlead_relay.store.meta import noted_usable_from
from fairlead_relay.store.migrate import schema_of, usable_from
from fairlead_relay.store.schema import metadata
from tests.conformance.conftest import MakeStore


def _differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "target_metadata": metadata})
    return list(compare_metadata(context, metadata))


def _constraints(connection: Connection) -> dict[str, set[str | None]]:
    """Name the checks and uniques of each table; Alembic compares columns, keys and indexes, but not these."""
    inspector = inspect(connection)
    return {
        table: {found["name"] for found in inspector.get_check_constraints(table)}
        | {found["name"] for found in inspector.get_unique_constraints(table)}
        for table in metadata.tables
    }


async def test_migrations_make_the_schema_of_the_code(make_store: MakeStore, database_url: str) -> None:
    """Whoever changes a table must write the migration too."""
    store = await make_store(LocalBus())
    assert await store.write(_differences) == []
    migrated = await store.write(_constraints)

    def remake(connection: Connection) -> dict[str, set[str | None]]:
        metadata.drop_all(connection)
        metadata.create_all(connection)
        return _constraints(connection)

    assert await store.write(remake) == migrated


async def test_a_second_start_finds_nothing_to_do(make_store: MakeStore, store: Store) -> None:
    """What is stored stays."""
    again = await make_store(LocalBus())
    assert await again.read(lambda c: c.scalars(text("SELECT name FROM organizations")).all()) == ["acme"]


async def test_a_newer_database_is_refused(make_store: MakeStore, store: Store) -> None:
    """An older relay must not write into what it does not understand: a newer one removed from it, or left no word."""
    await store.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num = 'v9999'")))
    for word in ("UPDATE meta SET value = 'v9998' WHERE key = 'usable_from'", "DELETE FROM meta"):
        await store.write(lambda c, word=word: c.execute(text(word)))
        with pytest.raises(StoreUnusable, match="schema v9999 is of a newer relay"):
            await make_store(LocalBus())


async def test_a_newer_database_that_only_grew_is_used(make_store: MakeStore, store: Store) -> None:
    """After a rollback, and beside newer relays, an older relay works on, and leaves schema and word as they are."""
    await store.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num = 'v9999'")))
    await store.write(lambda c: c.execute(text("UPDATE meta SET value = 'v0002' WHERE key = 'usable_from'")))
    again = await make_store(LocalBus())
    assert await again.read(lambda c: c.scalars(text("SELECT name FROM organizations")).all()) == ["acme"]
    assert await again.read(schema_of) == "v9999"
    assert await again.read(noted_usable_from) == "v0002"


def test_what_was_removed_last_has_to_be_known() -> None:
    """Revisions that only add change nothing for relays of before."""
    assert usable_from(["v0001_pre_first", "v0002_pre_more"]) == "v0001"
    assert usable_from(["v0001_pre_first", "v0002_post_less", "v0003_pre_more"]) == "v0002"
