"""Files of the blob port: small, whole or not there, and damage is named. For every adapter, see test_port.py."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead_relay.errors import BlobInvalid, StoreUnavailable
from fairlead_relay.store.blobs import DirectoryBlobs

CONTENT = b'{"kind": "ConfigMap"}\n' * 20_000 + random.Random(1).randbytes(100_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobs:
    """A directory that holds CONTENT."""
    made = DirectoryBlobs(tmp_path / "blobs")
    made.put(SHA256, [CONTENT])
    return made


def test_manifests_are_stored_compressed(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    """They shrink to little more than what was random."""
    (file,) = (tmp_path / "blobs").rglob("*.z")
    assert file.stat().st_size < 110_000


def test_nothing_half_written_stays_behind(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    """Neither of bytes with another hash, nor of a connection that broke."""

    def broken() -> Iterator[bytes]:
        yield b"some"
        raise ConnectionResetError

    with pytest.raises(BlobInvalid):
        blobs.put("a" * 64, [b"other"])
    with pytest.raises(StoreUnavailable):
        blobs.put("b" * 64, broken())
    assert len([path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]) == 1


def test_content_that_is_missing_or_damaged_is_named(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    """The reader never gets fewer or other bytes without an error."""
    with pytest.raises(BlobInvalid, match="it is not stored"):
        list(blobs.read("a" * 64))
    (file,) = (tmp_path / "blobs").rglob("*.z")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BlobInvalid, match="ends too early"):
        list(blobs.read(SHA256))
    file.write_bytes(b"\0" * 100)
    with pytest.raises(BlobInvalid, match="is damaged"):
        list(blobs.read(SHA256))


def test_storing_again_makes_content_young(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    """It is then not forgotten for its age; what a crash left half-written is."""
    (file,) = (tmp_path / "blobs").rglob("*.z")
    (file.parent / ".incoming-x").touch()
    os.utime(file.parent / ".incoming-x", (1, 1))
    os.utime(file, (1, 1))
    blobs.put(SHA256, [])
    assert list(blobs.stored_before(1000)) == []
    assert [path.name for path in file.parent.iterdir()] == [file.name]
