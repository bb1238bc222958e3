"""
Taking a backup, while the relay serves: one snapshot of the store, then what its rows name.

The snapshot comes first. A bundle is stored before any row names it and collected only long after the last one did, so
what the snapshot names is still there when it is copied. Must not change anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from fairlead_relay import __version__
from fairlead_relay.backup.archive import About, ArchiveWriter
from fairlead_relay.errors import BlobInvalid, StoreUnusable
from fairlead_relay.pki.generations import authority_files
from fairlead_relay.store.blobs import Blobs
from fairlead_relay.store.engines import check_place, parse_url, reader_engine, translate
from fairlead_relay.store.meta import store_epoch
from fairlead_relay.store.migrate import newest_schema, schema_of
from fairlead_relay.store.schema import bundles, metadata

_ROWS: Final = 1000
"""Rows fetched at once: a few MiB at most."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a backup holds."""

    about: About
    rows: int
    bundles: int
    missing: tuple[str, ...]
    """Hashes of bundles whose bytes are gone or damaged; they cannot be deployed or rolled back to."""


def take_backup(
    target: IO[bytes], database: str, blobs: Blobs, authority: Path, now: float, tell: Callable[[str], None]
) -> Taken:
    """
    Write a backup.

    Args:
        target: Where to.
        database: URL of the relay's store; the relay may be serving.
        blobs: Where its bundles are.
        authority: Folder of its certificate authority.
        now: Seconds since the epoch.
        tell: Gets a line before each step.
    Raises: StoreUnusable, StoreUnavailable: the store cannot be read, or is of another version. OSError: the target
        cannot be written, or the authority not read.
    """
    url = parse_url(database)
    check_place(url)
    writer = ArchiveWriter(target)
    engine = reader_engine(url, 1)
    try:
        with engine.connect() as connection, connection.begin():
            about = _about(connection, now)
            writer.add_about(about)
            rows = sum(_add_table(writer, connection, name, tell) for name in _tables())
            hashes = sorted(set(connection.scalars(select(bundles.c.sha256))))
    except SQLAlchemyError as error:
        raise translate(error) from error
    finally:
        engine.dispose()
    tell("certificate authority")
    for file in authority_files(authority):
        writer.add(f"pki/{file.relative_to(authority)}", [file.read_bytes()])
    tell(f"{len(hashes)} bundles")
    missing = [sha256 for sha256 in hashes if not _add_blob(writer, blobs, sha256)]
    writer.finish()
    return Taken(about, rows, len(hashes) - len(missing), tuple(missing))


def _about(connection: Connection, now: float) -> About:
    schema, epoch = schema_of(connection), None
    if schema == newest_schema():
        epoch = store_epoch(connection)
    if schema is None or epoch is None:
        raise StoreUnusable(
            f"its schema is {schema or 'missing'} and this program's is {newest_schema()}; take the backup with the "
            "version that serves, or run 'fairlead-relay migrate' first"
        )
    return About(__version__, schema, epoch, now)


def _tables() -> list[str]:
    """Return the tables, those that others refer to first."""
    return [table.name for table in metadata.sorted_tables]


def _add_table(writer: ArchiveWriter, connection: Connection, name: str, tell: Callable[[str], None]) -> int:
    tell(f"table {name}")
    table = metadata.tables[name]
    order = table.primary_key.columns
    rows = connection.execution_options(yield_per=_ROWS).execute(select(table).order_by(*order))
    return writer.add_table(name, [column.name for column in table.columns], rows)


def _add_blob(writer: ArchiveWriter, blobs: Blobs, sha256: str) -> bool:
    try:
        # Read once before: a part that turns out damaged half-way could not be taken back.
        for _ in blobs.read(sha256):
            pass
    except BlobInvalid:
        return False
    writer.add(f"blobs/{sha256}", blobs.read(sha256))
    return True
