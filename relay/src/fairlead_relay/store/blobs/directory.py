"""
Blobs in a directory, of one relay or mounted by several.

Files are written beside their place, synced and moved there, so that what is found under a hash is whole.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from fairlead_relay.errors import BlobInvalid, StoreUnavailable
from fairlead_relay.store.blobs.port import CHUNK_BYTES, check_sha256, compress, decompress


class DirectoryBlobs:
    """
    Content in a directory. See `Blobs`.

    Args:
        folder: Made when needed; its parent exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, sha256: str) -> bool:
        """Tell whether the content is stored."""
        return self._place(sha256).is_file()

    def put(self, sha256: str, content: Iterable[bytes]) -> None:
        """Store content, durably on return."""
        if self.has(sha256):
            return
        place = self._place(sha256)
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=place.parent, prefix=".incoming-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    compress(sha256, content, file.write)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(place)
            finally:
                Path(name).unlink(missing_ok=True)
            _sync_folder(place.parent)
        except OSError as error:
            raise StoreUnavailable(f"content cannot be stored: {error.strerror}") from error

    def read(self, sha256: str, offset: int = 0) -> Iterator[bytes]:
        """Yield the raw bytes from an offset on."""
        try:
            with self._place(sha256).open("rb") as file:
                yield from decompress(sha256, _pieces(file), offset)
        except FileNotFoundError:
            raise BlobInvalid(sha256, "it is not stored") from None
        except OSError as error:
            raise StoreUnavailable(f"content cannot be read: {error.strerror}") from error

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _place(self, sha256: str) -> Path:
        # Two levels keep folders short, on any file system.
        return self._folder / check_sha256(sha256)[:2] / f"{sha256}.z"


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(CHUNK_BYTES):
        yield piece


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: the folder is a file of its own to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
