"""Each adapter of the blob port: a folder where the store is SQLite, tables where it is PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead_relay.store.blobs import Blobs, open_blobs
from tests.conformance.postgresql import PostgresqlServer


@pytest.fixture
def empty_blobs(database_url: str, tmp_path: Path) -> Iterator[Blobs]:
    """An adapter that holds nothing, as a relay opens it beside its store."""
    blobs = open_blobs("", database_url, tmp_path / "blobs")
    yield blobs
    blobs.close()


@pytest.fixture
def url(postgresql: PostgresqlServer) -> Iterator[str]:
    """A database without any table."""
    made = postgresql.make_database()
    yield made
    postgresql.drop_database(made)
