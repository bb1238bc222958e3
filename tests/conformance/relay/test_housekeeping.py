"""Housekeeping over store and bundles: all that may go, in as many writes as it takes, and content a round later."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from fairlead_relay.housekeeping import Forgotten, Housekeeping
from fairlead_relay.store import Store
from fairlead_relay.store.blobs import open_blobs
from fairlead_relay.store.bundles import Bundle, add_bundle
from tests.conformance.domain import ORGANIZATION

DAY = 86_400.0
CONTENTS = [f"bundle {number}".encode() for number in range(250)]
HASHES = [hashlib.sha256(content).hexdigest() for content in CONTENTS]


async def test_bundles_go_and_their_content_a_round_later(store: Store, database_url: str, tmp_path: Path) -> None:
    """A backup that began with the row still finds the content; counting changes nothing."""
    start = time.time()
    blobs = open_blobs("", database_url, tmp_path / "blobs")
    for sha256, content in zip(HASHES, CONTENTS, strict=True):
        blobs.put(sha256, [content])
    for sha256 in HASHES[:-1]:
        await store.write(lambda c, sha256=sha256: add_bundle(c, Bundle(ORGANIZATION, sha256, 10, start)))
    young = Housekeeping(store, blobs, 30 * DAY, lambda: start)
    # The domain's own three are much older.
    assert await young.tidy() == Forgotten(bundles=3)
    old = Housekeeping(store, blobs, 30 * DAY, lambda: start + 2 * DAY)
    assert await old.count() == await old.count() == Forgotten(bundles=249, contents=1)
    assert await old.tidy() == Forgotten(bundles=249, contents=1)
    assert blobs.has(HASHES[0])
    assert not blobs.has(HASHES[-1])
    assert await old.tidy() == Forgotten(contents=249)
    assert not any(map(blobs.has, HASHES))
    assert await old.tidy() == Forgotten()
    blobs.close()
