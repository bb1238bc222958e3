"""
Checking an uploaded bundle without holding up the loop.

A bundle of 16 MiB takes seconds of Python to check: it goes to a worker process, made when the first large one arrives.
Small ones are checked in a thread, within a few milliseconds. Nothing here writes to the store.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from fairlead_relay.worker import begin_worker
from fairlead_shared.bundle import BundleHash, read_bundle

SMALL_BYTES = 64 * 1024
"""Checked in under 5 ms: cheaper in a thread than the way to a process."""


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """What the relay keeps of a checked bundle beside its bytes."""

    size_bytes: int
    namespaces: tuple[str, ...]
    """Every namespace its objects name, sorted."""


def check_content(content: bytes, expected: BundleHash) -> BundleFacts:
    """
    Check a bundle's bytes.

    Raises: BundleInvalid: it is no canonical bundle, over its limits, of another hash, or holds a plaintext Secret.
    """
    bundle = read_bundle(content, expected)
    namespaces = {manifest["metadata"].get("namespace", "") for manifest in bundle.objects()}
    return BundleFacts(len(bundle.content), tuple(sorted(namespaces - {""})))


class BundleChecker:
    """Checks bundles in a thread or in one worker process."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    async def check(self, content: bytes, expected: BundleHash) -> BundleFacts:
        """
        Check a bundle's bytes, off the loop.

        Raises:
            BundleInvalid: as check_content says.
            BrokenProcessPool: the worker died, such as for lack of memory; the next call gets a new one.

        """
        if len(content) <= SMALL_BYTES:
            return await asyncio.to_thread(check_content, content, expected)
        pool = self._pool
        if pool is None:
            # Spawned, not forked: a fork would copy the relay's threads, sockets and locks in any state they are in.
            context = multiprocessing.get_context("spawn")
            pool = self._pool = ProcessPoolExecutor(1, context, begin_worker)
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, check_content, content, expected)
        except BrokenProcessPool:
            if self._pool is pool:
                self._pool = None
            raise

    def stop(self) -> None:
        """End the worker; idempotent."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
