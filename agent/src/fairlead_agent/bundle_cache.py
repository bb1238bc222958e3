"""
Cache of bundles on disk, by hash, bounded in bytes, and the fetch that fills it.

A bundle is checked against its hash whenever it is read: the disk is trusted no more than the relay. A broken
transfer leaves a `.part` file and goes on from there.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from fairlead_agent.errors import BundleUnavailable
from fairlead_agent.exchange import Courier
from fairlead_shared.bundle import MAX_BUNDLE_BYTES, Bundle, BundleHash, read_bundle
from fairlead_shared.errors import BundleInvalid, ErrorCode

MAX_CACHE_BYTES = 128 * 1024 * 1024
"""Eight bundles of the greatest size; the chart's emptyDir is sized for it."""
_BUNDLE, _PART = ".bundle", ".part"


class _PartFile:
    """A bundle on its way: the courier's sink."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._file).st_size

    @property
    def size(self) -> int:
        """Bytes on disk so far."""
        return self._size

    def write(self, payload: bytes) -> None:
        """Append bytes. Raises: BundleUnavailable: more than any bundle may have."""
        if self._size + len(payload) > MAX_BUNDLE_BYTES:
            raise BundleUnavailable(f"the relay sent more than {MAX_BUNDLE_BYTES:,} bytes", ErrorCode.TOO_LARGE)
        view = memoryview(payload)
        while view:
            view = view[os.write(self._file, view) :]
        self._size += len(payload)

    def close(self) -> None:
        os.close(self._file)


class BundleCache:
    """
    Bundles on disk.

    Args:
        directory: Made when it is missing; holds nothing else.
        courier: Where a missing bundle comes from.
    """

    def __init__(self, directory: Path, courier: Courier) -> None:
        self._directory = directory
        self._courier = courier
        self._locks: dict[str, asyncio.Lock] = {}
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._held_bytes = sum(path.stat().st_size for path in directory.iterdir())
        """No less than is there: to look at every file for each bundle would take longer than a small deployment."""

    async def load(self, sha256: str) -> Bundle:
        """
        Return a bundle, from disk or from the relay; waits while the relay is away.

        Raises: BundleUnavailable: the relay does not have it, or its bytes do not match. OSError: the disk cannot be
        used.
        """
        async with self._locks.setdefault(sha256, asyncio.Lock()):
            return await self._cached(sha256) or await self._fetched(sha256)

    async def _cached(self, sha256: str) -> Bundle | None:
        path = self._directory / f"{sha256}{_BUNDLE}"
        try:
            bundle = await asyncio.to_thread(_read, path, sha256)
        except FileNotFoundError:
            return None
        except BundleInvalid:
            # Damaged on disk: fetch it again.
            path.unlink(missing_ok=True)
            return None
        os.utime(path)
        return bundle

    async def _fetched(self, sha256: str) -> Bundle:
        part = self._directory / f"{sha256}{_PART}"
        sink = _PartFile(part)
        try:
            await self._courier.fetch(sha256, sink)
            bundle = await asyncio.to_thread(_read, part, sha256)
        except (BundleInvalid, BundleUnavailable) as error:
            # The next attempt starts from the first byte.
            part.unlink(missing_ok=True)
            if isinstance(error, BundleInvalid):
                raise BundleUnavailable(f"the relay sent a bundle that cannot be used: {error}", error.code) from None
            raise
        finally:
            sink.close()
        part.replace(self._directory / f"{sha256}{_BUNDLE}")
        self._held_bytes += sink.size
        if self._held_bytes > MAX_CACHE_BYTES:
            self._evict()
        return bundle

    def _evict(self) -> None:
        """Delete the files used longest ago until the rest fits, but none that a job is loading."""
        files = [(path.stat().st_mtime, path.stat().st_size, path) for path in self._directory.iterdir()]
        total = self._held_bytes = 0
        for _, size, path in sorted(files, reverse=True):
            total += size
            lock = self._locks.get(path.stem)
            if total > MAX_CACHE_BYTES and (lock is None or not lock.locked()):
                path.unlink()
                self._locks.pop(path.stem, None)
            else:
                self._held_bytes += size


def _read(path: Path, sha256: str) -> Bundle:
    return read_bundle(path.read_bytes(), BundleHash(sha256))
