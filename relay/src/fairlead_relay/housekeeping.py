"""
Housekeeping: forgets old history and the bundles that nobody needs any more, a little at a time.

Each relay does it every hour; several on one database do no harm. The content of a bundle goes a round after its last
row: a backup that began with the row still finds the content.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from fairlead_relay.errors import StoreError
from fairlead_relay.store import Store
from fairlead_relay.store.blobs import Blobs
from fairlead_relay.store.retention import BUNDLE_GRACE_SECONDS, Forgettable, forget, forgettable, used_bundles

EVERY_SECONDS: Final = 3600.0
_CHUNK: Final = 100
"""Deployments in one write, each with about as many events as it has objects: some 50 ms of the store's writer."""
_HASHES: Final = 500
"""Of contents that are looked up at once."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How much is gone, or would be."""

    deployments: int = 0
    jobs: int = 0
    """Without a deployment."""
    bundles: int = 0
    contents: int = 0
    """Of bundles that were forgotten before, by every organization."""

    def __add__(self, other: Forgotten) -> Forgotten:
        """Return both together."""
        return Forgotten(
            self.deployments + other.deployments,
            self.jobs + other.jobs,
            self.bundles + other.bundles,
            self.contents + other.contents,
        )

    @classmethod
    def of(cls, what: Forgettable) -> Forgotten:
        """Count."""
        return cls(len(what.deployments), len(what.jobs), len(what.bundles))


class Housekeeping:
    """
    Forgets what is old.

    Args:
        store: Started.
        blobs: Where bundles are.
        history_seconds: How long ended deployments are kept at least.
        clock: Seconds since the epoch.
    """

    def __init__(self, store: Store, blobs: Blobs, history_seconds: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._blobs = blobs
        self._history_seconds = history_seconds
        self._clock = clock

    async def tidy(self) -> Forgotten:
        """
        Forget everything that may go.

        Raises: StoreUnavailable: try again later; what is gone is gone whole.
        """
        total = Forgotten(contents=await asyncio.to_thread(self._forget_contents, await self._unused()))
        while what := await self._find(_CHUNK):
            gone = await self._store.write(partial(forget, what=what, now=self._clock()))
            if not gone:
                break
            total += Forgotten.of(gone)
        return total

    async def count(self) -> Forgotten:
        """Return what `tidy` would forget now, and change nothing."""
        what = await self._find(1_000_000_000)
        return Forgotten.of(what) + Forgotten(contents=len(await self._unused()))

    async def tidy_regularly(self) -> None:
        """Tidy every hour, at another minute than other relays. A task of the relay; never returns."""
        logger = structlog.get_logger("housekeeping")
        while True:
            await asyncio.sleep(EVERY_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311  (no secret)
            try:
                gone = await self.tidy()
            except StoreError as error:
                logger.warning("history not tidied; it is tried again in an hour", reason=str(error))
                continue
            if gone != Forgotten():
                logger.info("old history forgotten", deployments=gone.deployments, jobs=gone.jobs, bundles=gone.bundles)

    async def _find(self, limit: int) -> Forgettable:
        return await self._store.read(
            partial(forgettable, history_seconds=self._history_seconds, now=self._clock(), limit=limit)
        )

    async def _unused(self) -> list[str]:
        """Return the contents that no organization has as a bundle, and nobody stored within the grace."""
        hashes = await asyncio.to_thread(lambda: list(self._blobs.stored_before(self._clock() - BUNDLE_GRACE_SECONDS)))
        unused: list[str] = []
        for start in range(0, len(hashes), _HASHES):
            some = hashes[start : start + _HASHES]
            used = await self._store.read(partial(used_bundles, hashes=some))
            unused += [sha256 for sha256 in some if sha256 not in used]
        return unused

    def _forget_contents(self, unused: list[str]) -> int:
        before = self._clock() - BUNDLE_GRACE_SECONDS
        return sum(1 for sha256 in unused if self._blobs.forget(sha256, before))
