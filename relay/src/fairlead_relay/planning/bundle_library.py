"""
What bundles write to: remembered from their upload, read again from their bytes when it was forgotten.

A statement lists every namespace of its bundle, and must not cost seconds of parsing per deployment.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from fairlead_relay.errors import NotFound
from fairlead_relay.planning.bundle_check import BundleChecker, BundleFacts
from fairlead_relay.store import Store
from fairlead_relay.store.blobs import Blobs
from fairlead_relay.store.bundles import find_bundle
from fairlead_shared.bundle import BundleHash

REMEMBERED: Final = 1000
"""Bundles; each costs a few hundred bytes, and a deployment follows its upload within seconds."""


class BundleLibrary:
    """
    Checks bundles and remembers what they write to.

    Args:
        store: Knows which organization has which bundle.
        blobs: Holds the bytes.
        checker: Does the work off the loop.

    """

    def __init__(self, store: Store, blobs: Blobs, checker: BundleChecker) -> None:
        self._store = store
        self._blobs = blobs
        self._checker = checker
        self._facts: OrderedDict[str, BundleFacts] = OrderedDict()

    async def check(self, content: bytes, sha256: BundleHash) -> BundleFacts:
        """
        Check an uploaded bundle's bytes.

        Raises: BundleInvalid: it is no canonical bundle, over its limits, of another hash, or holds a plaintext Secret.
        """
        facts = await self._checker.check(content, sha256)
        self._facts[sha256] = facts
        self._facts.move_to_end(sha256)
        while len(self._facts) > REMEMBERED:
            self._facts.popitem(last=False)
        return facts

    async def namespaces_of(self, organization: str, sha256: str) -> tuple[str, ...]:
        """
        Return every namespace that an organization's bundle names, sorted.

        Raises: NotFound: the organization has no such bundle. BlobInvalid: its bytes are gone.
        """
        if await self._store.read(lambda connection: find_bundle(connection, organization, sha256)) is None:
            raise NotFound("bundle", sha256)
        facts = self._facts.get(sha256)
        if facts is None:
            content = await asyncio.to_thread(lambda: b"".join(self._blobs.read(sha256)))
            facts = await self.check(content, BundleHash(sha256))
        return facts.namespaces
