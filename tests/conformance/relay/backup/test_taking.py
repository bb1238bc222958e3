"""Taking a backup while the store is at work, on both databases. What is in it, test_restoring.py shows."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from sqlalchemy import text

from fairlead_relay.backup.archive import ArchiveReader
from fairlead_relay.backup.taking import take_backup
from fairlead_relay.errors import StoreUnusable
from fairlead_relay.store import Store
from fairlead_relay.store.blobs import DirectoryBlobs
from tests.conformance.domain import START, deploy


async def test_a_backup_is_one_snapshot_of_a_store_at_work(store: Store, database_url: str, tmp_path: Path) -> None:
    """Each deployment in it has its job and the job's first event, however many were stored meanwhile."""
    (tmp_path / "pki").mkdir()
    file = tmp_path / "relay.backup"
    stop = asyncio.Event()

    async def go_on() -> int:
        count = 0
        while not stop.is_set():
            await store.write(deploy)
            count += 1
        return count

    def take() -> None:
        with file.open("wb") as target:
            take_backup(
                target, database_url, DirectoryBlobs(tmp_path / "blobs"), tmp_path / "pki", START, lambda _: None
            )

    busy = asyncio.create_task(go_on())
    for _ in range(3):
        await asyncio.to_thread(take)
        counts = {name: sum(1 for _ in rows) for name, _, rows in ArchiveReader(file).tables()}
        assert counts["deployments"] == counts["jobs"] == counts["job_events"]
    stop.set()
    assert await busy > counts["deployments"] > 0


async def test_a_store_of_another_version_is_not_backed_up(store: Store, database_url: str, tmp_path: Path) -> None:
    """Its tables may be others than this program knows."""
    await store.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num = 'v0001'")))
    with pytest.raises(StoreUnusable, match="its schema is v0001 and this program's is v0"):
        take_backup(io.BytesIO(), database_url, DirectoryBlobs(tmp_path), tmp_path, START, lambda _: None)


async def test_a_database_without_tables_is_not_backed_up(tmp_path: Path) -> None:
    """There is nothing to back up; most likely the URL is wrong."""
    with pytest.raises(StoreUnusable, match="its schema is missing"):
        take_backup(
            io.BytesIO(), f"sqlite:///{tmp_path}/x.db", DirectoryBlobs(tmp_path), tmp_path, START, lambda _: None
        )
