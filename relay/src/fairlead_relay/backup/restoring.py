"""
Restoring a backup: history from the backup, rights from what is there, and a new store epoch.

What happened after the backup is not in it, and it must neither be repeated nor undone:

- **Rights.** Tokens, agents, approvals and disabled clusters are kept as the present store has them: a restore that
  forgets who was revoked lets them back in. Only where no present store is left do they come from the backup.
- **Certificate authority.** The one on the disk stays, for the same reason; without one, the backup's is put back.
- **The audit log.** No record is lost, and each restore is one: records that the backup does not have are kept behind
  its own (see audit_chains.py).
- **Jobs.** What was held becomes unreachable and is settled by its agent's next hello. What is queued is offered again:
  an agent refuses what it carried out before, and what is older than what it carried out since (its replay marks).
- **Positions** of events go on far behind every one that a client may have seen, so that resuming misses nothing.

The store changes in one transaction, last of all. Must not run beside a relay.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from sqlalchemy import (
    Connection,
    Integer,
    MetaData,
    RowMapping,
    bindparam,
    column,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy import table as table_of
from sqlalchemy.exc import SQLAlchemyError

from fairlead_relay.backup.archive import ArchiveReader
from fairlead_relay.backup.audit_chains import ASIDE, continue_chains, set_chains_aside
from fairlead_relay.errors import BackupUnusable, Conflict
from fairlead_relay.pki.private_files import create_folder
from fairlead_relay.store.audit import Actor, Entry, append_records
from fairlead_relay.store.blobs import CHUNK_BYTES, Blobs
from fairlead_relay.store.blobs.database import TABLES
from fairlead_relay.store.engines import check_place, parse_url, translate, writer_engine
from fairlead_relay.store.events import newest_position
from fairlead_relay.store.jobs import Transition
from fairlead_relay.store.meta import renew_store_epoch
from fairlead_relay.store.migrate import knows_schema, migrate, schema_of
from fairlead_relay.store.outbox import iso_time
from fairlead_relay.store.schema import (
    agents,
    api_tokens,
    approvals,
    clusters,
    enrolment_tokens,
    job_events,
    jobs,
    metadata,
    organizations,
    relays,
)
from fairlead_shared.jobs import JobEvent

_PLACES: Final = (organizations, clusters)
"""Of both stores, the present one's values: others refer to them."""
_RIGHTS: Final = (agents, enrolment_tokens, approvals, api_tokens)
"""Of the present store alone, if there is one."""
_ROWS: Final = 500
_AHEAD: Final = 1_000_000_000
"""Positions left out: more events than any relay stores between a backup and the loss of its store."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did."""

    rows: int
    bundles: int
    kept_rights: bool
    """Whether tokens, agents and approvals are those of the store that was there."""
    kept_authority: bool
    unsettled: int
    """Jobs that wait for their agents to say what became of them."""


def restore_backup(
    backup: ArchiveReader, database: str, blobs: Blobs, authority: Path, now: float, by: Actor, *, replace: bool
) -> Restored:
    """
    Put a backup back.

    Args:
        backup: Checked.
        database: URL of the store; no relay works on it.
        blobs: Where bundles go.
        authority: Folder of the certificate authority.
        now: Seconds since the epoch.
        by: Who does it, for the audit log.
        replace: Whether a store that is not empty may be replaced.
    Raises: Conflict: it is not empty. BackupUnusable: the backup is of a newer relay. StoreUnusable, StoreUnavailable:
        the store cannot be written. OSError: a folder cannot be written. The store is then as it was.
    """
    if not knows_schema(backup.about.schema):
        reason = f"its schema {backup.about.schema} is of relay {backup.about.relay_version}; restore with that version"
        raise BackupUnusable(str(backup.file), reason)
    url = parse_url(database)
    check_place(url)
    engine = writer_engine(url)
    try:
        with engine.connect() as connection, connection.begin():
            is_there = _check_empty(connection, replace=replace)
        bundles = 0
        for bundles, (sha256, content) in enumerate(backup.blobs(), start=1):  # noqa: B007  (counted)
            blobs.put(sha256, _pieces(content))
        kept_authority = not create_folder(authority, backup.pki())
        with engine.connect() as connection, connection.begin():
            rows, unsettled = _restore_store(connection, backup, now, by, is_there=is_there)
    except SQLAlchemyError as error:
        raise translate(error) from error
    finally:
        engine.dispose()
    return Restored(rows, bundles, is_there, kept_authority, unsettled)


def _pieces(content: IO[bytes]) -> Iterator[bytes]:
    while piece := content.read(CHUNK_BYTES):
        yield piece


def _check_empty(connection: Connection, *, replace: bool) -> bool:
    """Tell whether there is a store with anything in it, if that may be replaced."""
    if schema_of(connection) is None:
        return False
    migrate(connection)
    if connection.scalar(select(organizations.c.name).limit(1)) is None:
        return False
    if not replace:
        raise Conflict("the store is not empty; --replace gives up what it holds, but for who may do what")
    return True


def _restore_store(
    connection: Connection, backup: ArchiveReader, now: float, by: Actor, *, is_there: bool
) -> tuple[int, int]:
    present = (*_PLACES, *_RIGHTS) if is_there else ()
    kept = {table.name: connection.execute(select(table)).mappings().all() for table in present}
    newest = newest_position(connection) if is_there else 0
    if is_there:
        set_chains_aside(connection)
    _drop_everything(connection)
    migrate(connection, backup.about.schema)
    rows = sum(_insert(connection, name, columns, cells) for name, columns, cells in backup.tables())
    _number_on(connection, newest)
    migrate(connection)
    if is_there:
        _keep_rights(connection, kept)
        continue_chains(connection)
    _record(connection, backup, now, by)
    renew_store_epoch(connection)
    connection.execute(update(agents).values(session_id=None, relay_id=None))
    connection.execute(delete(relays))
    reason = f"the relay was restored from a backup of {iso_time(backup.about.taken_at)}"
    return rows, len(_LOSE_TO_RESTORE.apply(connection, now, new_reason=reason))


_LOSE_TO_RESTORE: Final = Transition(JobEvent.LOSE, jobs.c.holder.is_not(None), reason=bindparam("new_reason"))


def _record(connection: Connection, backup: ArchiveReader, now: float, by: Actor) -> None:
    """Have every organization's audit log say that its history is that of a backup."""
    about = {"taken_at": iso_time(backup.about.taken_at), "relay_version": backup.about.relay_version}
    names = connection.scalars(select(organizations.c.name).order_by(organizations.c.name)).all()
    append_records(
        connection, [Entry(name, by, "relay.restore", f"organization/{name}", after=about) for name in names], now
    )


def _drop_everything(connection: Connection) -> None:
    present = MetaData()
    # Bundles may be in the same database; they are put back one by one, and those that are there stay.
    present.reflect(connection, only=lambda name, _: name not in {*TABLES, ASIDE})
    present.drop_all(connection)


def _insert(connection: Connection, name: str, columns: Sequence[str], rows: Iterator[list[Any]]) -> int:
    """Insert a table's rows as they were: its columns are those of the backup's schema, not of this relay's."""
    statement = insert(table_of(name, *map(column, columns)))
    count = 0
    while chunk := [dict(zip(columns, row, strict=True)) for row in itertools.islice(rows, _ROWS)]:
        connection.execute(statement, chunk)
        count += len(chunk)
    return count


def _number_on(connection: Connection, newest: int) -> None:
    """Have the database number new rows after the restored ones; events far after every one that was ever told."""
    after = max(newest, newest_position(connection)) + _AHEAD
    if connection.dialect.name == "sqlite":
        # Other tables number after their last row by themselves.
        connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = 'job_events'")
        connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES ('job_events', ?)", (after,))
        return
    for table in metadata.tables.values():
        (key, *further) = table.primary_key.columns
        if further or not isinstance(key.type, Integer):
            continue
        last = after if table is job_events else connection.scalar(select(func.max(key))) or 0
        sequence = func.pg_get_serial_sequence(table.name, key.name)
        connection.execute(select(func.setval(sequence, max(last, 1), last > 0)))


def _keep_rights(connection: Connection, kept: Mapping[str, Sequence[RowMapping]]) -> None:
    for table in _PLACES:
        for row in kept[table.name]:
            this = [key == row[key.name] for key in table.primary_key.columns]
            if connection.execute(update(table).where(*this).values(**row)).rowcount == 0:
                connection.execute(insert(table).values(**row))
    for table in _RIGHTS:
        connection.execute(delete(table))
        if kept[table.name]:
            connection.execute(insert(table), [dict(row) for row in kept[table.name]])
