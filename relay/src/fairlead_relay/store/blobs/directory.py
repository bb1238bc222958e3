"""
Blobs in a directory, of one relay or mounted by several.

Files are written beside their place, synced and moved there, so that what is found under a hash is whole.
"""

from __future__ import annotations

import contextlib
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
        place = self._place(sha256)
        try:
            if place.is_file():
                os.utime(place)
                return
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

    def stored_before(self, at: float) -> Iterator[str]:
        """Yield the hashes of what was last stored before a time; clears what a crash left half-written, too."""
        for place in self._folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):
                if place.stat().st_mtime >= at:
                    continue
                if place.name.startswith("."):
                    place.unlink()
                else:
                    yield place.stem

    def forget(self, sha256: str, stored_before: float) -> bool:
        """Delete content, unless it was stored again since that time."""
        place = self._place(sha256)
        aside = place.with_name(f".forgotten-{place.name}")
        try:
            # Out of sight first: who stores it again from here on writes it anew, or has changed its time before.
            place.rename(aside)
            if aside.stat().st_mtime >= stored_before:
                aside.rename(place)
                return False
            aside.unlink()
        except FileNotFoundError:
            return True
        except OSError as error:
            raise StoreUnavailable(f"content cannot be deleted: {error.strerror}") from error
        return True

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
