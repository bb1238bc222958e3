"""Content by hash in a directory: whole, checked, readable from any place in it."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from fairlead_relay.errors import BlobInvalid, StoreUnavailable
from fairlead_relay.store.blobs import CHUNK_BYTES, DirectoryBlobs

CONTENT = b'{"kind": "ConfigMap"}\n' * 20_000 + random.Random(1).randbytes(100_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobs:
    """A directory that holds CONTENT."""
    made = DirectoryBlobs(tmp_path / "blobs")
    made.put(SHA256, [CONTENT[:1000], CONTENT[1000:]])
    return made


def test_content_is_read_as_it_was_stored(blobs: DirectoryBlobs) -> None:
    """In pieces of a bulk chunk at most."""
    pieces = list(blobs.read(SHA256))
    assert b"".join(pieces) == CONTENT
    assert max(map(len, pieces)) <= CHUNK_BYTES
    assert blobs.has(SHA256)


@pytest.mark.parametrize("offset", [1, CHUNK_BYTES, 300_001, len(CONTENT) - 1, len(CONTENT), len(CONTENT) + 1])
def test_content_is_read_from_any_offset(blobs: DirectoryBlobs, offset: int) -> None:
    """A transfer that broke off goes on."""
    assert b"".join(blobs.read(SHA256, offset)) == CONTENT[offset:]


def test_manifests_are_stored_compressed(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    """They shrink to little more than what was random."""
    (file,) = (tmp_path / "blobs").rglob("*.z")
    assert file.stat().st_size < 110_000


def test_content_with_another_hash_is_refused_and_leaves_nothing(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    """Nothing half-written stays behind either."""
    with pytest.raises(BlobInvalid, match=f"the bytes have the hash {hashlib.sha256(b'other').hexdigest()[:12]}"):
        blobs.put("a" * 64, [b"other"])
    assert not blobs.has("a" * 64)
    assert len([path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]) == 1


def test_content_that_fails_on_its_way_leaves_nothing(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    """The client's connection broke."""

    def broken() -> object:
        yield b"some"
        raise ConnectionResetError

    with pytest.raises(StoreUnavailable):
        blobs.put("a" * 64, broken())
    assert len([path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]) == 1


def test_storing_again_changes_nothing(blobs: DirectoryBlobs) -> None:
    """The bytes are not even read."""
    blobs.put(SHA256, iter(()))
    assert b"".join(blobs.read(SHA256)) == CONTENT


@pytest.mark.parametrize("sha256", ["", "A" * 64, "../../../../etc/passwd", "a" * 63])
def test_an_address_that_is_no_hash_never_becomes_a_path(blobs: DirectoryBlobs, sha256: str) -> None:
    """Clients choose addresses."""
    with pytest.raises(BlobInvalid, match="this is no SHA-256"):
        blobs.has(sha256)


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
