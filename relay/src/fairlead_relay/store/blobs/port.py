"""
What every adapter of the blob port does, and how all of them keep content: compressed, checked on its way in.

Everything here blocks: call it in a worker thread. Must not know who may read what; the table of bundles says that.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from fairlead_relay.errors import BlobInvalid

CHUNK_BYTES: Final = 64 * 1024
"""Raw bytes handed over at once: a bulk chunk of the protocol."""
_LEVEL: Final = 3
"""Manifests shrink tenfold at any level; this one takes 0.1 s for 16 MiB."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Blobs(Protocol):
    """Content by the SHA-256 of its raw bytes."""

    def has(self, sha256: str) -> bool:
        """Tell whether the content is stored."""

    def put(self, sha256: str, content: Iterable[bytes]) -> None:
        """
        Store content, durably on return. Twice is once, and the later time counts for `stored_before`.

        Raises: BlobInvalid: the bytes are not those of the hash; nothing is stored. StoreUnavailable: the disk is full
            or cannot be written, or the database does not answer.
        """

    def read(self, sha256: str, offset: int = 0) -> Iterator[bytes]:
        """
        Yield the raw bytes from an offset on, at most CHUNK_BYTES at once.

        Raises: BlobInvalid: it is not stored, or is damaged. StoreUnavailable: it cannot be read now.
        """

    def stored_before(self, at: float) -> Iterator[str]:
        """Yield the hashes of what was last stored before a time, seconds since the epoch."""

    def forget(self, sha256: str, stored_before: float) -> bool:
        """Delete content, unless it was stored again since that time. Tells whether it is gone."""

    def close(self) -> None:
        """Let go of what is open; idempotent."""


def check_sha256(sha256: str) -> str:
    """
    Return an address that is one.

    Raises: BlobInvalid: it is not; clients choose addresses.
    """
    if not _SHA256.fullmatch(sha256):
        raise BlobInvalid(sha256, "this is no SHA-256 in lower-case hex")
    return sha256


def compress(sha256: str, content: Iterable[bytes], write: Callable[[bytes], object]) -> None:
    """
    Write content compressed, and check its hash on the way.

    Raises: BlobInvalid: the bytes are not those of the hash; what was written is worthless.
    """
    digest, zipper = hashlib.sha256(), zlib.compressobj(_LEVEL)
    for piece in content:
        digest.update(piece)
        write(zipper.compress(piece))
    write(zipper.flush())
    if digest.hexdigest() != sha256:
        raise BlobInvalid(sha256, f"the bytes have the hash {digest.hexdigest()[:12]}")


def decompress(sha256: str, pieces: Iterator[bytes], offset: int) -> Iterator[bytes]:
    """
    Yield the raw bytes of compressed pieces from an offset on, at most CHUNK_BYTES at once.

    Raises: BlobInvalid: they end too early or are damaged.
    """
    unzip = zlib.decompressobj()
    waiting = b""
    try:
        while not unzip.eof:
            waiting = waiting or next(pieces, b"")
            if not waiting:
                raise BlobInvalid(sha256, "what is stored of it ends too early")
            raw = unzip.decompress(waiting, CHUNK_BYTES)
            waiting = unzip.unconsumed_tail
            kept = raw[offset:]
            offset = max(0, offset - len(raw))
            if kept:
                yield kept
    except zlib.error as error:
        raise BlobInvalid(sha256, f"what is stored of it is damaged: {error}") from error
