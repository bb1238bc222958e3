"""
The relay's own backups: a file every so often, the newest few kept.

A backup is written by a process of its own at a low priority: rows are turned into JSON for seconds or minutes, and the
event loop must not wait for that. It never fills the disk, which would stop every deployment: one is not begun unless
there is room for it. Several relays on one database each write their own, so one of them is told to, or none.

Must not: touch a file that does not have the name of one of its own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import structlog

from fairlead_relay.backup.writing import write_backup_file
from fairlead_relay.errors import BackupFailed, DataDirectoryUnusable, RelayError
from fairlead_relay.settings import Settings
from fairlead_relay.worker import begin_worker

RESERVE_BYTES: Final = 256 << 20
"""Room that stays free beside a backup: what the doctor calls too little is never this module's doing."""
GROWTH: Final = 1.5
"""A backup may be so much larger than the one before."""
RETRY_SECONDS: Final = 900.0
"""After one that failed; sooner where backups are more frequent than that."""
_NAME: Final = re.compile(r"relay-(\d{8}T\d{6})Z\.backup")
_FORM: Final = "%Y%m%dT%H%M%S"
_NICE: Final = 10


@dataclass(frozen=True, slots=True)
class Written:
    """What a backup that was written holds."""

    rows: int
    bundles: int
    missing: int
    """Bundles whose bytes are gone in the relay, too."""


Write = Callable[[Path], Awaitable[Written]]


class Backups:
    """
    A folder of the relay's own backups.

    Args:
        folder: Where; made if its parent exists.
        every_seconds: From the beginning of one to that of the next.
        keep: How many stay, the newest.
        write: Writes one.
        clock: Seconds since the epoch.

    Raises: DataDirectoryUnusable: the folder cannot be made.

    """

    def __init__(self, folder: Path, every_seconds: float, keep: int, write: Write, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._every_seconds = every_seconds
        self._keep = keep
        self._write = write
        self._clock = clock
        self._logger = structlog.get_logger("backups")
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise DataDirectoryUnusable(str(folder), error.strerror or str(error)) from error
        self.newest = max((begun for begun, _ in self.written()), default=0.0)
        """When the newest was begun, seconds since the epoch; 0 if there is none."""

    def written(self) -> list[tuple[float, Path]]:
        """Return time (seconds since the epoch) and file of each, oldest first."""
        found = ((_NAME.fullmatch(path.name), path) for path in self._folder.iterdir())
        return sorted((_time(match[1]), path) for match, path in found if match)

    async def back_up(self) -> Path:
        """
        Write one now, and remove what is more than enough.

        Raises: BackupFailed: it was not written, and why; those before are all there.
        """
        now = self._clock()
        file = self._folder / f"relay-{datetime.fromtimestamp(now, UTC).strftime(_FORM)}Z.backup"
        try:
            await asyncio.to_thread(self._make_room)
            written = await self._write(file)
            self.newest = now
            await asyncio.to_thread(self._remove_old)
        except OSError as error:
            raise BackupFailed(error.strerror or str(error)) from error
        self._logger.info("backup written", file=str(file), rows=written.rows, bundles=written.bundles)
        if written.missing:
            self._logger.error("bundles are missing in the backup, since their bytes are gone", bundles=written.missing)
        return file

    async def back_up_regularly(self) -> None:
        """Write one whenever it is due, at once if it is overdue. A task of the relay; never returns."""
        while True:
            wait_seconds = self.newest + self._every_seconds - self._clock()
            await asyncio.sleep(min(max(0.0, wait_seconds), self._every_seconds))
            try:
                await self.back_up()
            except BackupFailed as error:
                retry_seconds = min(RETRY_SECONDS, self._every_seconds)
                self._logger.warning("backup failed; it is tried again", reason=error.reason, seconds=retry_seconds)
                await asyncio.sleep(retry_seconds)

    def _make_room(self) -> None:
        for left_by_a_kill in self._folder.glob(".relay-*.backup-*"):
            left_by_a_kill.unlink(missing_ok=True)
        last = max((path.stat().st_size for _, path in self.written()[-1:]), default=0)
        free = shutil.disk_usage(self._folder).free
        if free < last * GROWTH + RESERVE_BYTES:
            raise BackupFailed(
                f"{self._folder} has {free >> 20:,} MiB left, too little for another of {last >> 20:,} MiB"
            )

    def _remove_old(self) -> None:
        for _, path in self.written()[: -self._keep]:
            path.unlink(missing_ok=True)


def in_a_process(settings: Settings) -> Write:
    """Return what writes a backup of this relay in a process of its own."""

    async def write(file: Path) -> Written:
        context = multiprocessing.get_context("spawn")
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=_write, args=(settings, file, writer), name="backup", daemon=True)
        try:
            await asyncio.to_thread(process.start)
            writer.close()
            answer = await asyncio.to_thread(reader.recv)
        except EOFError:
            raise BackupFailed("its process died, such as for lack of memory") from None
        finally:
            # Over, or given up because the relay stops: then the file never takes its place.
            if process.pid is not None:
                process.kill()
                process.join()
        if not isinstance(answer, Written):
            raise BackupFailed(str(answer))
        return answer

    return write


def _write(settings: Settings, file: Path, answer: Connection) -> None:
    """Write one, in a process of its own; a reason crosses processes more safely than an error."""
    begin_worker(_NICE)
    try:
        taken = write_backup_file(settings, file, _ignore)
    except (RelayError, OSError) as error:
        answer.send(str(error))
    else:
        answer.send(Written(taken.rows, taken.bundles, len(taken.missing)))


def _ignore(_step: str) -> None:
    """Nobody watches."""


def _time(text: str) -> float:
    return datetime.strptime(text, _FORM).replace(tzinfo=UTC).timestamp()
