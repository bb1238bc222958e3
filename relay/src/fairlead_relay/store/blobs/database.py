"""
Blobs in a PostgreSQL, for relays that share one and no folder.

Two tables of the adapter's own, made by it: they may be in another database than the store's, are no part of its
migrations, and a backup takes their content and not their rows. A pool of its own keeps bundles out of the way of the
queue's only writer. Content is in rows of some size, so that a transfer reads one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final

from sqlalchemy import (
    Column,
    Connection,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import SQLAlchemyError

from fairlead_relay.errors import BlobInvalid
from fairlead_relay.store.blobs.port import check_sha256, compress, decompress
from fairlead_relay.store.engines import blob_engine, parse_url, translate

ROW_BYTES: Final = 256 * 1024
"""Compressed bytes in a row: a bundle of ordinary size is one row, the largest a few dozen."""
_ADVISORY_LOCK: Final = 0x6661_6972_626C_6F62
"""'fairblob' in ASCII: one relay makes the tables, those that start beside it find them."""

_tables: Final = MetaData()
_blobs: Final = Table(
    "blobs",
    _tables,
    Column("sha256", Text, primary_key=True),
    Column("stored_at", Double, nullable=False),
)
_rows: Final = Table(
    "blob_rows",
    _tables,
    Column("sha256", Text, ForeignKey("blobs.sha256", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)
TABLES: Final = frozenset(_tables.tables)
"""Names of the tables: a restore of the store leaves them alone."""
_FIND: Final = select(_blobs.c.sha256).where(_blobs.c.sha256 == bindparam("of_sha256"))
_CLAIM: Final = postgresql.insert(_blobs).on_conflict_do_nothing().returning(_blobs.c.sha256)
_TOUCH: Final = update(_blobs).where(_blobs.c.sha256 == bindparam("of_sha256")).values(stored_at=bindparam("new_time"))
_STORED_BEFORE: Final = select(_blobs.c.sha256).where(_blobs.c.stored_at < bindparam("of_time"))
_FORGET: Final = delete(_blobs).where(
    _blobs.c.sha256 == bindparam("of_sha256"), _blobs.c.stored_at < bindparam("of_time")
)
_READ: Final = select(_rows.c.content).where(
    _rows.c.sha256 == bindparam("of_sha256"), _rows.c.number == bindparam("of_number")
)


class DatabaseBlobs:
    """
    Content in a PostgreSQL. See `Blobs`.

    Args:
        url: Of the database.

    Raises: StoreUnusable, StoreUnavailable: it cannot be used, or does not answer.
    """

    def __init__(self, url: str) -> None:
        self._engine = blob_engine(parse_url(url))
        try:
            with self._engine.begin() as connection:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
                _tables.create_all(connection)
        except SQLAlchemyError as error:
            self._engine.dispose()
            raise translate(error) from error

    def has(self, sha256: str) -> bool:
        """Tell whether the content is stored."""
        try:
            with self._engine.begin() as connection:
                return connection.scalar(_FIND, {"of_sha256": check_sha256(sha256)}) is not None
        except SQLAlchemyError as error:
            raise translate(error) from error

    def put(self, sha256: str, content: Iterable[bytes]) -> None:
        """Store content, durably on return."""
        check_sha256(sha256)
        try:
            with self._engine.begin() as connection:
                if connection.execute(_TOUCH, {"of_sha256": sha256, "new_time": time.time()}).rowcount:
                    return
                # Who comes second waits here until the first has committed, or takes its place if that failed.
                if connection.scalar(_CLAIM, {"sha256": sha256, "stored_at": time.time()}) is not None:
                    rows = _RowWriter(connection, sha256)
                    compress(sha256, content, rows.write)
                    rows.end()
        except SQLAlchemyError as error:
            raise translate(error) from error

    def read(self, sha256: str, offset: int = 0) -> Iterator[bytes]:
        """Yield the raw bytes from an offset on."""
        if not self.has(sha256):
            raise BlobInvalid(sha256, "it is not stored")
        yield from decompress(sha256, self._pieces(sha256), offset)

    def stored_before(self, at: float) -> Iterator[str]:
        """Yield the hashes of what was last stored before a time."""
        try:
            with self._engine.begin() as connection:
                hashes = connection.scalars(_STORED_BEFORE, {"of_time": at}).all()
        except SQLAlchemyError as error:
            raise translate(error) from error
        yield from hashes

    def forget(self, sha256: str, stored_before: float) -> bool:
        """Delete content, unless it was stored again since that time."""
        try:
            with self._engine.begin() as connection:
                connection.execute(_FORGET, {"of_sha256": sha256, "of_time": stored_before})
        except SQLAlchemyError as error:
            raise translate(error) from error
        return not self.has(sha256)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _pieces(self, sha256: str) -> Iterator[bytes]:
        """Yield the rows, each read by itself: a slow agent must hold no transaction open."""
        number = 0
        while True:
            try:
                with self._engine.begin() as connection:
                    piece = connection.scalar(_READ, {"of_sha256": sha256, "of_number": number})
            except SQLAlchemyError as error:
                raise translate(error) from error
            if piece is None:
                return
            yield bytes(piece)
            number += 1


class _RowWriter:
    """Gathers compressed bytes into rows."""

    def __init__(self, connection: Connection, sha256: str) -> None:
        self._connection = connection
        self._sha256 = sha256
        self._waiting = bytearray()
        self._number = 0

    def write(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._waiting += piece
        while len(self._waiting) >= ROW_BYTES:
            self._insert(ROW_BYTES)

    def end(self) -> None:
        """Write what is left."""
        if self._waiting:
            self._insert(len(self._waiting))

    def _insert(self, size: int) -> None:
        row = {"sha256": self._sha256, "number": self._number, "content": bytes(self._waiting[:size])}
        self._connection.execute(insert(_rows), row)
        del self._waiting[:size]
        self._number += 1
