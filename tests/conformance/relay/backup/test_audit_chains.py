"""What a restore makes of the audit log: no record is lost, whatever the present store and the backup have."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from fairlead_relay.backup.archive import ArchiveReader
from fairlead_relay.backup.restoring import restore_backup
from fairlead_relay.backup.taking import take_backup
from fairlead_relay.bus import LocalBus
from fairlead_relay.store import Store
from fairlead_relay.store.audit import Actor, AuditFilter, Entry, append_records, check_chain, list_records
from fairlead_relay.store.blobs import DirectoryBlobs
from fairlead_relay.store.organizations import ensure_organization
from fairlead_relay.store.schema import metadata
from tests.conformance.domain import ORGANIZATION, START

BY = Actor("command", "fairlead-relay restore", "root")


class Place:
    """A store's database and a folder for its backup."""

    def __init__(self, folder: Path, url: str) -> None:
        """Take both."""
        self.url, self.file, self.authority = url, folder / "relay.backup", folder / "pki"
        self.authority.mkdir()
        self.blobs = DirectoryBlobs(folder / "blobs")

    def back_up(self) -> ArchiveReader:
        """Take a backup, and read it."""
        with self.file.open("wb") as target:
            take_backup(target, self.url, self.blobs, self.authority, START, lambda _: None)
        return ArchiveReader(self.file)

    def restore(self, backup: ArchiveReader) -> None:
        """Put it in the place of what is there."""
        restore_backup(backup, self.url, self.blobs, self.authority, START + 60, BY, replace=True)


@pytest.fixture
def place(tmp_path: Path, database_url: str) -> Place:
    """Return the place of the test's store."""
    return Place(tmp_path, database_url)


async def note(store: Store, *verbs: str, organization: str = ORGANIZATION) -> None:
    """Record some changes, each with another time."""
    for number, verb in enumerate(verbs):
        made = Entry(organization, Actor("token", "t"), verb, "x/y")
        await store.write(lambda c, one=made, at=START + number: append_records(c, [one], at))


async def verbs_after(place: Place, organization: str = ORGANIZATION) -> list[str]:
    """Return what is recorded of an organization after a restore, once its chain was checked."""
    store = Store(place.url, LocalBus().publish)
    await store.start()
    try:
        await store.read(lambda c: check_chain(c, organization))
        found = await store.read(lambda c: list_records(c, organization, AuditFilter(), 2000))
    finally:
        await store.stop()
    return [record.verb for record in reversed(found)]


async def test_records_made_since_the_backup_stay(store: Store, place: Place) -> None:
    """Those of an organization that the backup does not know, too."""
    await note(store, "a", "b")
    backup = place.back_up()
    await note(store, "c")
    await store.write(lambda c: ensure_organization(c, "globex", START))
    await note(store, "x", organization="globex")
    await store.stop()
    place.restore(backup)
    assert await verbs_after(place) == ["a", "b", "c", "relay.restore"]
    assert await verbs_after(place, "globex") == ["x", "relay.restore"]


async def test_a_later_backup_brings_its_records(store: Store, place: Place) -> None:
    """The present store was older: all that it has is in the backup."""
    await note(store, "a", "b", "c")
    backup = place.back_up()
    await store.write(lambda c: c.execute(text("DELETE FROM audit_records WHERE number = 3")))
    await store.stop()
    place.restore(backup)
    assert await verbs_after(place) == ["a", "b", "c", "relay.restore"]


async def test_records_of_another_chain_are_kept_behind_those_of_the_backup(store: Store, place: Place) -> None:
    """A relay that began anew recorded something before its old backup was found."""
    await note(store, "a", "b")
    backup = place.back_up()
    await store.write(lambda c: c.execute(text("DELETE FROM audit_records")))
    await note(store, *("n" * 501))
    await store.stop()
    place.restore(backup)
    assert await verbs_after(place) == ["a", "b", *("n" * 501), "relay.restore"]


async def test_an_empty_place_gets_the_records_of_the_backup(store: Store, place: Place) -> None:
    """Nothing was there to be kept."""
    await note(store, "a")
    backup = place.back_up()

    def empty(connection: object) -> None:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())  # type: ignore[attr-defined]

    await store.write(empty)
    await store.stop()
    place.restore(backup)
    assert await verbs_after(place) == ["a", "relay.restore"]
