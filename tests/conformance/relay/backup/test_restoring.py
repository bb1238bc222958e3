"""Backups of one database restored into the same or the other, and what a restore must not forget or repeat."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, text

from fairlead_relay.backup.archive import About, ArchiveReader, ArchiveWriter
from fairlead_relay.backup.restoring import Restored, restore_backup
from fairlead_relay.backup.taking import take_backup
from fairlead_relay.bus import LocalBus
from fairlead_relay.errors import BackupUnusable, Conflict, StoreError
from fairlead_relay.store import Store
from fairlead_relay.store.audit import Actor
from fairlead_relay.store.blobs import DirectoryBlobs
from fairlead_relay.store.bundles import Bundle, add_bundle
from fairlead_relay.store.clusters import create_cluster, enrol_agent, find_cluster
from fairlead_relay.store.events import Scope, newest_position, read_events
from fairlead_relay.store.jobs import find_job
from fairlead_relay.store.migrate import newest_schema
from fairlead_relay.store.relays import beat
from fairlead_relay.store.revocation import revoke_agent
from fairlead_relay.store.schema import metadata
from fairlead_relay.store.tokens import ApiToken, Role, create_token, find_token
from fairlead_shared.jobs import JobState
from tests.conformance.domain import ORGANIZATION, START, deploy, enrolled, identity_of, step
from tests.conformance.postgresql import PostgresqlServer
from tests.conformance.queue_actor import connected

CONTENT = b"what a bundle holds"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LATER = START + 3600
OPERATOR = Actor("command", "fairlead-relay restore", "root")


class Place:
    """A relay's folders, and the databases of a test."""

    def __init__(self, folder: Path, database_url: str) -> None:
        """Take the folder and the database that is backed up."""
        self.url = database_url
        self.blobs = DirectoryBlobs(folder / "blobs")
        self.authority = folder / "pki"
        (self.authority / "ca-2").mkdir(parents=True)
        (self.authority / "root.pem").write_bytes(b"root")
        (self.authority / "ca-2" / "root.key").write_bytes(b"key")
        self.file = folder / "relay.backup"
        self.other = folder / "other"
        self.other.mkdir()

    def back_up(self) -> ArchiveReader:
        """Take a backup, and read it."""
        with self.file.open("wb") as target:
            taken = take_backup(target, self.url, self.blobs, self.authority, START, lambda _: None)
        assert taken.missing == tuple(sorted(["a" * 64, "b" * 64, "c" * 64]))
        return ArchiveReader(self.file)

    def restore(self, backup: ArchiveReader, url: str, *, replace: bool = False) -> Restored:
        """Put it back into another place; its authority is missing there."""
        blobs = DirectoryBlobs(self.other / "blobs")
        return restore_backup(backup, url, blobs, self.other / "pki", LATER, OPERATOR, replace=replace)


@pytest.fixture
def place(tmp_path: Path, database_url: str) -> Place:
    """Return the place of the test's store."""
    return Place(tmp_path, database_url)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a schema, of either kind whatever the other is."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/other/relay.db"
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    url = server.make_database()
    yield url
    server.drop_database(url)


async def fill(store: Store, place: Place) -> str:
    """Add a bundle, a token, a job that runs and one that waits; return the id of the job that runs."""
    place.blobs.put(SHA256, [CONTENT])
    await store.write(lambda c: add_bundle(c, Bundle(ORGANIZATION, SHA256, len(CONTENT), START)))
    await store.write(lambda c: create_token(c, token("kept")))
    await store.write(deploy)
    await store.write(deploy)
    await store.write(lambda c: beat(c, "relay-1"))
    agent = await connected(store)
    job = await agent.take()
    await agent.report(job, step(1))
    return job.id


def token(name: str) -> ApiToken:
    """Return a token's record."""
    return ApiToken(name, ORGANIZATION, Role.ADMIN, "0" * 64, START, None)


def everything(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of all tables."""
    return {
        name: [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()]
        for name, table in metadata.tables.items()
    }


async def opened(url: str) -> Store:
    """Start a store on a restored database."""
    store = Store(url, LocalBus().publish)
    await store.start()
    return store


async def test_everything_comes_back_in_either_database(store: Store, place: Place, empty_url: str) -> None:
    """But sessions and relays, which are over, the job that ran, which nobody holds, and the epoch, which is new."""
    running = await fill(store, place)
    before = await store.read(everything)
    backup = place.back_up()
    restored = place.restore(backup, empty_url)
    assert (restored.bundles, restored.kept_rights, restored.kept_authority, restored.unsettled) == (1, False, False, 1)
    assert restored.rows == sum(len(rows) for rows in before.values())
    assert b"".join(DirectoryBlobs(place.other / "blobs").read(SHA256)) == CONTENT
    assert (place.other / "pki" / "ca-2" / "root.key").read_bytes() == b"key"
    again = await opened(empty_url)
    try:
        after = await again.read(everything)
        job = await again.read(lambda c: find_job(c, ORGANIZATION, running))
        told = await again.read(lambda c: read_events(c, Scope(ORGANIZATION, job_id=running), 0, 100))
    finally:
        await again.stop()
    assert again.epoch not in {store.epoch, ""}
    assert (job.state, job.holder, job.acknowledged_seq) == (JobState.UNREACHABLE, None, 1)
    assert job.reason.startswith("the relay was restored from a backup of 20")
    # What a client saw last is before what is told from now on, whatever was told between backup and restore.
    assert told[-1].position > told[-2].position + 1_000_000
    assert after["job_events"][: len(before["job_events"])] == before["job_events"]
    assert (len(before.pop("relays")), after.pop("relays")) == (1, [])
    (audited,) = after.pop("audit_records")
    assert (audited["verb"], audited["actor_name"], before.pop("audit_records")) == ("relay.restore", "root", [])
    for name in ("meta", "agents", "jobs", "job_events"):
        del before[name], after[name]
    assert after == before


async def test_rows_are_numbered_on(store: Store, place: Place, empty_url: str) -> None:
    """A deployment stored after the restore follows those before it."""
    await fill(store, place)
    place.restore(place.back_up(), empty_url)
    again = await opened(empty_url)
    try:
        newest = await again.read(newest_position)
        made = await again.write(deploy)
        assert made.sequence == 3
        assert made.job.sequence == 3
        assert await again.read(newest_position) == newest + 1
    finally:
        await again.stop()


async def test_who_was_revoked_since_stays_out(store: Store, place: Place) -> None:
    """Rights are those of the present store; the history is the backup's."""
    await fill(store, place)
    await store.write(lambda c: create_token(c, token("gone")))
    backup = place.back_up()
    await store.write(lambda c: revoke_agent(c, ORGANIZATION, "one", LATER))
    await store.write(lambda c: c.execute(text("DELETE FROM api_tokens WHERE id = 'gone'")))
    await store.write(lambda c: create_token(c, token("new")))
    await store.write(lambda c: create_cluster(c, ORGANIZATION, "two", LATER))
    await store.write(lambda c: enrol_agent(c, identity_of("two"), enrolled("02"), LATER))
    await store.write(deploy)
    newest = await store.read(newest_position)
    epoch = store.epoch
    await store.stop()
    assert place.restore(backup, place.url, replace=True).kept_rights
    again = await opened(place.url)
    try:
        one = await again.read(lambda c: find_cluster(c, ORGANIZATION, "one"))
        two = await again.read(lambda c: find_cluster(c, ORGANIZATION, "two"))
        assert one.agent is not None
        assert two.agent is not None
        assert (one.agent.revoked_at, two.agent.certificate_serial) == (LATER, "02")
        tokens = [await again.read(lambda c, name=name: find_token(c, name)) for name in ("kept", "new", "gone")]
        assert [found is not None for found in tokens] == [True, True, False]
        assert await again.read(lambda c: len(everything(c)["deployments"])) == 2
        assert await again.read(newest_position) > newest + 1_000_000
        assert again.epoch != epoch
    finally:
        await again.stop()


async def test_a_store_that_holds_something_is_left_alone(store: Store, place: Place) -> None:
    """Unless it is to be replaced."""
    await fill(store, place)
    backup = place.back_up()
    await store.write(deploy)
    before = await store.read(everything)
    with pytest.raises(Conflict, match="not empty; --replace"):
        place.restore(backup, place.url)
    assert await store.read(everything) == before
    assert not (place.other / "pki").exists()


async def test_a_restore_that_fails_changes_nothing(store: Store, place: Place) -> None:
    """All of it is one transaction."""
    await fill(store, place)
    before = await store.read(everything)
    with place.file.open("wb") as target:
        writer = ArchiveWriter(target)
        writer.add_about(About("1.2.3", str(newest_schema()), "epoch", START))
        columns = ["organization", "name", "created_at"]
        writer.add_table("organizations", ["name", "created_at"], [["acme", START]])
        writer.add_table("applications", columns, [["nobody", "shop", START]])
        writer.finish()
    await store.stop()
    with pytest.raises(StoreError):
        place.restore(ArchiveReader(place.file), place.url, replace=True)
    again = await opened(place.url)
    try:
        assert await again.read(everything) == before
    finally:
        await again.stop()


async def test_a_backup_of_an_older_schema_is_brought_up_to_date(place: Place, empty_url: str) -> None:
    """Its tables are made as they were, then migrated."""
    with place.file.open("wb") as target:
        writer = ArchiveWriter(target)
        writer.add_about(About("0.0.1", "v0001", "epoch", START))
        writer.add_table("meta", ["key", "value"], [["store_epoch", "epoch"]])
        writer.add_table("organizations", ["name", "created_at"], [["acme", START]])
        writer.add_table("clusters", ["organization", "name", "created_at"], [["acme", "one", START]])
        writer.finish()
    place.restore(ArchiveReader(place.file), empty_url)
    again = await opened(empty_url)
    try:
        assert (await again.read(lambda c: find_cluster(c, ORGANIZATION, "one"))).state == "pending"
    finally:
        await again.stop()


async def test_a_backup_of_a_newer_relay_is_refused(place: Place, empty_url: str) -> None:
    """With its version."""
    with place.file.open("wb") as target:
        writer = ArchiveWriter(target)
        writer.add_about(About("9.9.9", "v9999", "epoch", START))
        writer.finish()
    with pytest.raises(BackupUnusable, match=r"schema v9999 is of relay 9\.9\.9; restore with that version"):
        place.restore(ArchiveReader(place.file), empty_url)
