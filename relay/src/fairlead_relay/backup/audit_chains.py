"""
The audit log over a restore: what the backup does not have is kept.

The present records are set aside in the database, as they may be many, and put behind those of the backup. Where an
organization's present chain goes on from the backup's, which is what a restore of its own backup finds, it stays whole.
Where the two are different chains, such as after a fresh start without the old store, the present records follow those
of the backup with numbers and digests of their own.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Connection, MetaData, Table, and_, func, insert, select

from fairlead_relay.store.audit import append_copies, chain_head
from fairlead_relay.store.schema import audit_records

ASIDE: Final = "audit_records_aside"
"""The table of the records that were there; gone when the restore is done."""
_aside: Final = Table(ASIDE, MetaData(), *(Column(column.name, column.type) for column in audit_records.columns))
_PAGE: Final = 500


def set_chains_aside(connection: Connection) -> None:
    """Copy all records, in the transaction of the restore, before it drops the tables."""
    _aside.create(connection)
    connection.execute(insert(_aside).from_select(list(_aside.columns), select(audit_records)))


def continue_chains(connection: Connection) -> None:
    """Put the records that were set aside behind those of the backup."""
    heads = select(_aside.c.organization, func.max(_aside.c.number)).group_by(_aside.c.organization)
    for organization, last in connection.execute(heads.order_by(_aside.c.organization)).all():
        _continue_chain(connection, organization, last)
    _aside.drop(connection)


def _continue_chain(connection: Connection, organization: str, last: int) -> None:
    of_aside = _aside.c.organization == organization
    number, digest = chain_head(connection, organization)
    if last <= number and _digest_at(connection, audit_records, organization, last) == _digest_at(
        connection, _aside, organization, last
    ):
        return  # the backup is of the same store, later
    if number == 0 or _digest_at(connection, _aside, organization, number) == digest:
        missing = select(_aside).where(of_aside, _aside.c.number > number)
        connection.execute(insert(audit_records).from_select(list(audit_records.columns), missing))
        return
    for after in range(0, last, _PAGE):
        page = select(_aside).where(of_aside, _aside.c.number > after, _aside.c.number <= after + _PAGE)
        append_copies(connection, connection.execute(page.order_by(_aside.c.number)).all())


def _digest_at(connection: Connection, table: Table, organization: str, number: int) -> str | None:
    found = and_(table.c.organization == organization, table.c.number == number)
    digest: str | None = connection.scalar(select(table.c.digest).where(found))
    return digest
