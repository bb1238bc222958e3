"""Facts about the store itself, as key and value. Must not hold anything that has a table of its own."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, insert, select, update

from fairlead_relay.store.schema import meta

_EPOCH = "store_epoch"
_USABLE_FROM = "usable_from"


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


def noted_usable_from(connection: Connection) -> str | None:
    """Return the schema that a relay must know to use the store; None in one of a relay that left no word of it."""
    return connection.scalar(select(meta.c.value).where(meta.c.key == _USABLE_FROM))


def note_usable_from(connection: Connection, revision: str) -> None:
    """Note the schema that a relay must know to use the store."""
    if noted_usable_from(connection) is None:
        connection.execute(insert(meta).values(key=_USABLE_FROM, value=revision))
    else:
        connection.execute(update(meta).where(meta.c.key == _USABLE_FROM).values(value=revision))
