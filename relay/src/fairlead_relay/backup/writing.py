"""A backup of the relay that some settings describe, into a stream or a file."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from fairlead_relay.backup.taking import Taken, take_backup
from fairlead_relay.data_directory import DataDirectory
from fairlead_relay.settings import Settings
from fairlead_relay.store.blobs import open_blobs


def write_backup(settings: Settings, target: IO[bytes], tell: Callable[[str], None]) -> Taken:
    """
    Write a backup to a stream; the relay may serve meanwhile.

    Args:
        settings: Of the relay.
        target: Where to.
        tell: Gets a line before each step.
    Raises: RelayError: the store cannot be read. OSError: the target cannot be written.
    """
    directory = DataDirectory(settings.data_dir)
    blobs = open_blobs(settings.blobs_url, settings.database, directory.blobs)
    return take_backup(target, settings.database, blobs, settings.authority, time.time(), tell)


def write_backup_file(settings: Settings, file: Path, tell: Callable[[str], None]) -> Taken:
    """
    Write beside the file and put it in place at the end, so that a backup that failed leaves the last one alone.

    Raises: as write_backup.
    """
    handle, name = tempfile.mkstemp(dir=file.absolute().parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(handle, "wb") as target:
            taken = write_backup(settings, target, tell)
            target.flush()
            os.fsync(target.fileno())
        Path(name).replace(file)
    finally:
        Path(name).unlink(missing_ok=True)
    return taken
