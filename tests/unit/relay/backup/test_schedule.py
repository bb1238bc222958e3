"""The relay's own backups: when, how many, and what stands in the way; what writes them here is told to."""

from __future__ import annotations

import asyncio
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from fairlead_relay.backup import schedule
from fairlead_relay.backup.schedule import Backups, Written
from fairlead_relay.errors import BackupFailed, DataDirectoryUnusable
from tests.polling import eventually

START = 1_800_000_000.0
HOUR = 3600.0


class Relay:
    """Writes what it is asked for, or fails; its clock stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START
        self.failure: Exception | None = None
        self.asked = 0

    async def write(self, file: Path) -> Written:
        """Write a backup."""
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        file.write_bytes(b"x" * 1000)
        return Written(rows=1, bundles=1, missing=0)

    def backups(self, folder: Path, keep: int = 3, every_seconds: float = HOUR) -> Backups:
        """Return backups of this relay."""
        return Backups(folder, every_seconds, keep, self.write, lambda: self.now)


def names(folder: Path) -> list[str]:
    """List the folder."""
    return sorted(path.name for path in folder.iterdir())


async def test_the_newest_stay_and_nothing_else_is_touched(tmp_path: Path) -> None:
    """Files that people put there are theirs; what a kill left of a backup is removed."""
    relay = Relay()
    backups = relay.backups(tmp_path / "backups")
    (tmp_path / "backups" / "relay-before-upgrade.backup").write_text("mine")
    (tmp_path / "backups" / ".relay-20270115T070000Z.backup-abc").write_text("half")
    for _ in range(5):
        await backups.back_up()
        relay.now += HOUR
    assert names(tmp_path / "backups") == [
        "relay-20270115T100000Z.backup",
        "relay-20270115T110000Z.backup",
        "relay-20270115T120000Z.backup",
        "relay-before-upgrade.backup",
    ]
    assert backups.newest == START + 4 * HOUR
    assert relay.backups(tmp_path / "backups").newest == backups.newest


async def test_one_that_fails_removes_none(tmp_path: Path) -> None:
    """And says why; the newest is as old as it was."""
    relay = Relay()
    backups = relay.backups(tmp_path, keep=1)
    await backups.back_up()
    relay.now += HOUR
    for failure in (BackupFailed("the database does not answer"), OSError(28, "No space left on device")):
        relay.failure = failure
        with pytest.raises(BackupFailed, match=r"does not answer|No space left"):
            await backups.back_up()
    assert len(names(tmp_path)) == 1
    assert backups.newest == START


async def test_a_disk_is_never_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk would stop every deployment: rather no backup, which an alert reports."""
    relay = Relay()
    backups = relay.backups(tmp_path)
    usage = namedtuple("usage", "total used free")  # noqa: PYI024  (as shutil's)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, schedule.RESERVE_BYTES + 100))
    await backups.back_up()
    with pytest.raises(BackupFailed, match="too little for another"):
        await backups.back_up()
    assert relay.asked == 1


async def test_one_is_written_when_it_is_due_and_again_after_a_failure(tmp_path: Path) -> None:
    """An overdue one at once: a relay that restarts every hour has backups all the same."""
    relay = Relay()
    relay.failure = BackupFailed("the database does not answer")
    task = asyncio.create_task(relay.backups(tmp_path, every_seconds=0.01).back_up_regularly())

    async def tried() -> bool:
        return relay.asked >= 2

    async def written() -> bool:
        return len(names(tmp_path)) == 1

    await eventually(tried, "a second try")
    assert names(tmp_path) == []
    relay.failure = None
    await eventually(written, "a backup")
    task.cancel()
    await asyncio.wait([task])


async def test_one_that_is_not_due_is_not_written(tmp_path: Path) -> None:
    """A restart is no reason for another."""
    relay = Relay()
    await relay.backups(tmp_path).back_up()
    task = asyncio.create_task(relay.backups(tmp_path).back_up_regularly())
    await asyncio.wait([task], timeout=0.05)
    assert relay.asked == 1
    task.cancel()
    await asyncio.wait([task])


def test_a_folder_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    """Rather than that it is found missing on the day it is needed."""
    with pytest.raises(DataDirectoryUnusable, match="nowhere"):
        Relay().backups(tmp_path / "nowhere" / "backups")
