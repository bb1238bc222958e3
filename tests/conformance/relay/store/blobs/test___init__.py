"""Where bundles are: beside the store, unless a URL names a folder or a database of their own."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from fairlead_relay.errors import StoreUnavailable, StoreUnusable
from fairlead_relay.store.blobs import DatabaseBlobs, DirectoryBlobs, open_blobs

LARGE = random.Random(2).randbytes(1_000_000)
SHA256 = hashlib.sha256(LARGE).hexdigest()


def test_bundles_may_be_in_a_database_or_a_folder_of_their_own(url: str, tmp_path: Path) -> None:
    """Whatever the store is."""
    first = open_blobs(url, f"sqlite:///{tmp_path}/relay.db", tmp_path / "blobs")
    second = open_blobs(url, f"sqlite:///{tmp_path}/relay.db", tmp_path / "blobs")
    assert isinstance(first, DatabaseBlobs)
    first.put(SHA256, [LARGE])
    assert b"".join(second.read(SHA256, 999_000)) == LARGE[999_000:]
    first.close()
    second.close()
    shared = open_blobs(f"file://{tmp_path}/shared%20folder", url, tmp_path / "blobs")
    assert isinstance(shared, DirectoryBlobs)
    shared.put(SHA256, [LARGE])
    assert (tmp_path / "shared folder" / SHA256[:2] / f"{SHA256}.z").is_file()


def test_a_database_that_is_none_for_bundles_is_refused(tmp_path: Path) -> None:
    """An SQLite file has one writer, the queue's."""
    with pytest.raises(StoreUnusable, match="bundles belong in a folder, a bucket or a PostgreSQL"):
        open_blobs(f"sqlite:///{tmp_path}/blobs.db", "", tmp_path)
    with pytest.raises(StoreUnavailable):
        open_blobs(f"postgresql://me@/relay?host={tmp_path}", "", tmp_path)
