"""
The blob port: content by hash, outside the database, so that bundles never starve the queue.

First adapter: a directory. Files are compressed (zlib), written beside their place, synced and moved there, so that
what is found under a hash is whole. Everything here blocks: call it in a worker thread. Must not know who may read
what; the table of bundles says that.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol

from fairlead_relay.errors import BlobInvalid, StoreUnavailable

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
        Store content, durably on return. Twice is once.

        Raises: BlobInvalid: the bytes are not those of the hash; nothing is stored. StoreUnavailable: the disk is full
            or cannot be written.
        """

    def read(self, sha256: str, offset: int = 0) -> Iterator[bytes]:
        """
        Yield the raw bytes from an offset on, at most CHUNK_BYTES at once.

        Raises: BlobInvalid: it is not stored, or is damaged.
        """


class DirectoryBlobs:
    """
    Content in a directory.

    Args:
        folder: Made when needed; its parent exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, sha256: str) -> bool:
        """Tell whether the content is stored."""
        return self._place(sha256).is_file()

    def put(self, sha256: str, content: Iterable[bytes]) -> None:
        """
        Store content, durably on return. Twice is once.

        Raises: BlobInvalid: the bytes are not those of the hash; nothing is stored. StoreUnavailable: the disk is full
            or cannot be written.
        """
        if self.has(sha256):
            return
        place = self._place(sha256)
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=place.parent, prefix=".incoming-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    _compress(sha256, content, file.write)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(place)
            finally:
                Path(name).unlink(missing_ok=True)
            _sync_folder(place.parent)
        except OSError as error:
            raise StoreUnavailable(f"content cannot be stored: {error.strerror}") from error

    def read(self, sha256: str, offset: int = 0) -> Iterator[bytes]:
        """
        Yield the raw bytes from an offset on, at most CHUNK_BYTES at once.

        Raises: BlobInvalid: it is not stored, or is damaged.
        """
        try:
            with self._place(sha256).open("rb") as file:
                unzip = zlib.decompressobj()
                skip = offset
                waiting = b""
                while not unzip.eof:
                    waiting = waiting or file.read(CHUNK_BYTES)
                    if not waiting:
                        raise BlobInvalid(sha256, "its file ends too early")
                    raw = unzip.decompress(waiting, CHUNK_BYTES)
                    waiting = unzip.unconsumed_tail
                    kept = raw[skip:]
                    skip = max(0, skip - len(raw))
                    if kept:
                        yield kept
        except FileNotFoundError:
            raise BlobInvalid(sha256, "it is not stored") from None
        except zlib.error as error:
            raise BlobInvalid(sha256, f"its file is damaged: {error}") from error
        except OSError as error:
            raise StoreUnavailable(f"content cannot be read: {error.strerror}") from error

    def _place(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise BlobInvalid(sha256, "this is no SHA-256 in lower-case hex")
        # Two levels keep folders short, on any file system.
        return self._folder / sha256[:2] / f"{sha256}.z"


def _compress(sha256: str, content: Iterable[bytes], write: Callable[[bytes], object]) -> None:
    """Write content compressed, and check its hash on the way."""
    digest, zipper = hashlib.sha256(), zlib.compressobj(_LEVEL)
    for piece in content:
        digest.update(piece)
        write(zipper.compress(piece))
    write(zipper.flush())
    if digest.hexdigest() != sha256:
        raise BlobInvalid(sha256, f"the bytes have the hash {digest.hexdigest()[:12]}")


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: the folder is a file of its own to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
