"""Content by hash, in every adapter: whole, checked, readable from any place in it."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fairlead_relay.errors import BlobInvalid, StoreUnavailable
from fairlead_relay.store.blobs import CHUNK_BYTES, Blobs
from tests.polling import PATIENCE_SECONDS

CONTENT = b'{"kind": "ConfigMap"}\n' * 20_000 + random.Random(1).randbytes(100_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def blobs(empty_blobs: Blobs) -> Blobs:
    """An adapter that holds CONTENT."""
    empty_blobs.put(SHA256, [CONTENT[:1000], CONTENT[1000:]])
    return empty_blobs


def test_content_is_read_as_it_was_stored(blobs: Blobs) -> None:
    """In pieces of a bulk chunk at most."""
    pieces = list(blobs.read(SHA256))
    assert b"".join(pieces) == CONTENT
    assert max(map(len, pieces)) <= CHUNK_BYTES
    assert blobs.has(SHA256)


@pytest.mark.parametrize("offset", [1, CHUNK_BYTES, 300_001, len(CONTENT) - 1, len(CONTENT), len(CONTENT) + 1])
def test_content_is_read_from_any_offset(blobs: Blobs, offset: int) -> None:
    """A transfer that broke off goes on."""
    assert b"".join(blobs.read(SHA256, offset)) == CONTENT[offset:]


def test_content_with_another_hash_is_refused_and_leaves_nothing(blobs: Blobs) -> None:
    """It can be stored again with the right bytes."""
    with pytest.raises(BlobInvalid, match=f"the bytes have the hash {hashlib.sha256(b'other').hexdigest()[:12]}"):
        blobs.put("a" * 64, [b"other"])
    assert not blobs.has("a" * 64)
    with pytest.raises(BlobInvalid, match="it is not stored"):
        list(blobs.read("a" * 64))


def test_content_that_fails_on_its_way_leaves_nothing(empty_blobs: Blobs) -> None:
    """The client's connection broke; the next one stores it."""

    def broken() -> Iterator[bytes]:
        yield CONTENT
        raise ConnectionResetError

    with pytest.raises((StoreUnavailable, ConnectionResetError)):
        empty_blobs.put(SHA256, broken())
    assert not empty_blobs.has(SHA256)
    empty_blobs.put(SHA256, [CONTENT])
    assert b"".join(empty_blobs.read(SHA256)) == CONTENT


def test_storing_again_changes_nothing(blobs: Blobs) -> None:
    """The bytes are not even read."""
    blobs.put(SHA256, iter(()))
    assert b"".join(blobs.read(SHA256)) == CONTENT


@pytest.mark.parametrize("sha256", ["", "A" * 64, "../../../../etc/passwd", "a" * 63])
def test_an_address_that_is_no_hash_never_becomes_a_path(blobs: Blobs, sha256: str) -> None:
    """Clients choose addresses."""
    with pytest.raises(BlobInvalid, match="this is no SHA-256"):
        blobs.has(sha256)


def test_two_that_store_the_same_at_once_store_it_once(empty_blobs: Blobs) -> None:
    """Two relays get the same upload; whoever is second finds it whole."""
    ready = threading.Barrier(4)

    def store() -> bool:
        ready.wait(PATIENCE_SECONDS)
        empty_blobs.put(SHA256, [CONTENT])
        return b"".join(empty_blobs.read(SHA256)) == CONTENT

    with ThreadPoolExecutor(4) as pool:
        assert all(done.result(PATIENCE_SECONDS) for done in [pool.submit(store) for _ in range(4)])


def test_content_is_forgotten_unless_it_was_stored_again(blobs: Blobs) -> None:
    """Whoever stored it again counts on it."""
    now = time.time()
    assert list(blobs.stored_before(now - 60)) == []
    assert list(blobs.stored_before(now + 60)) == [SHA256]
    assert not blobs.forget(SHA256, now - 60)
    assert b"".join(blobs.read(SHA256)) == CONTENT
    assert blobs.forget(SHA256, now + 60)
    assert not blobs.has(SHA256)
    assert list(blobs.stored_before(now + 60)) == []
    assert blobs.forget(SHA256, now + 60)
    blobs.put(SHA256, [CONTENT])
    assert b"".join(blobs.read(SHA256)) == CONTENT
