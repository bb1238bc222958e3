"""Facts about the store itself."""

from __future__ import annotations

from sqlalchemy import delete

from fairlead_relay.store import Store
from fairlead_relay.store.meta import ensure_store_epoch, store_epoch
from fairlead_relay.store.schema import meta


async def test_an_epoch_is_made_once(store: Store) -> None:
    """The first start makes it, later ones find it."""
    assert await store.write(ensure_store_epoch) == store.epoch
    await store.write(lambda c: c.execute(delete(meta)))
    assert await store.read(store_epoch) is None
    made = await store.write(ensure_store_epoch)
    assert made != store.epoch
    assert await store.read(store_epoch) == made
