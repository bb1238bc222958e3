"""Blobs in a PostgreSQL: what is done by rows, and a database that is away."""

from __future__ import annotations

import hashlib
import random

import pytest
from sqlalchemy import create_engine, text

from fairlead_relay.errors import BlobInvalid, StoreError
from fairlead_relay.store.blobs import DatabaseBlobs

LARGE = random.Random(2).randbytes(1_000_000)
SHA256 = hashlib.sha256(LARGE).hexdigest()


def execute(url: str, statement: str) -> None:
    """Change rows behind the adapter's back."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_content_that_is_damaged_is_named(url: str) -> None:
    """The reader never gets fewer or other bytes without an error."""
    blobs = DatabaseBlobs(url)
    blobs.put(SHA256, [LARGE])
    execute(url, "DELETE FROM blob_rows WHERE number = 2")
    with pytest.raises(BlobInvalid, match="ends too early"):
        list(blobs.read(SHA256))
    execute(url, r"UPDATE blob_rows SET content = '\x00000000' WHERE number = 0")
    with pytest.raises(BlobInvalid, match="is damaged"):
        list(blobs.read(SHA256))
    blobs.close()


def test_a_database_that_goes_away_is_a_passing_failure(url: str) -> None:
    """In the middle of a transfer; the next one goes on once it is back."""
    blobs = DatabaseBlobs(url)
    blobs.put(SHA256, [LARGE])
    pieces = blobs.read(SHA256)
    got = next(pieces)
    execute(url, "ALTER TABLE blob_rows RENAME TO gone")
    with pytest.raises(StoreError):
        list(pieces)
    execute(url, "ALTER TABLE gone RENAME TO blob_rows")
    assert got + b"".join(blobs.read(SHA256, len(got))) == LARGE
    blobs.close()
