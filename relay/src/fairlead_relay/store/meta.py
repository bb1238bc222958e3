"""Facts about the store itself, as key and value. Must not hold anything that has a table of its own."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, insert, select, update

from fairlead_relay.store.schema import meta

_EPOCH = "store_epoch"


def store_epoch(connection: Connection) -> str | None:
    """Return the mark that changes when a store is restored from a backup; None before the first start."""
    return connection.scalar(select(meta.c.value).where(meta.c.key == _EPOCH))


def ensure_store_epoch(connection: Connection) -> str:
    """Return the store's epoch; make it on the first start."""
    known = store_epoch(connection)
    if known is None:
        known = secrets.token_hex(8)
        connection.execute(insert(meta).values(key=_EPOCH, value=known))
    return known


def renew_store_epoch(connection: Connection) -> None:
    """Give a restored store another epoch than the one it was backed up with."""
    connection.execute(update(meta).where(meta.c.key == _EPOCH).values(value=secrets.token_hex(8)))
