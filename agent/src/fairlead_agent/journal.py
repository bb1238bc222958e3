"""
Journal: a job's events on disk, numbered, until the relay has stored them.

One file per job: a header line `{"base": N}`, then one event a line; the event on line i has number base + i. A line
cut off by a crash is dropped when the file is opened again.

**Durability.** Lines are written without fsync: they survive a SIGKILL of the process, which is all a spool on an
emptyDir can promise. Events lost with the node are derived again under the same keys, and the relay keeps the first
of each key.

**Numbers.** The relay says after which number to go on. A journal that was begun without knowing it (the spool was
lost, the relay is away) has no base until `settle`; until then its events are kept and not sent.

It must not interpret events, and it knows nothing of connections.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter

from fairlead_agent.errors import JournalFull
from fairlead_shared.progress import ProgressEvent

MAX_JOB_BYTES = 64 * 1024 * 1024
"""Unacknowledged events of one job: 20,000 objects with a dozen events each stay below."""
_COMPACT_BYTES = 4 * 1024 * 1024
"""Acknowledged bytes worth a rewrite of the file."""
_SUFFIX = ".events"
_EVENT: TypeAdapter[ProgressEvent] = TypeAdapter(ProgressEvent, config=ConfigDict(cache_strings="keys"))
"""Of strings read, pydantic remembers the keys only: no two events have the same."""


class Journal:
    """
    The event journal of one job.

    Args:
        path: File that holds it; made when it is missing.
        base: For a new file: the number after which to go on, None if only the relay knows.
    Raises: OSError: the spool cannot be used.
    """

    def __init__(self, path: Path, base: int | None) -> None:
        self._path = path
        self._base = base
        self._starts = array("Q")
        """Offset of each event's line in the file."""
        self._end = 0
        self._keys: set[bytes] = set()
        self._acknowledged = base or 0
        if path.exists():
            self._file = os.open(path, os.O_RDWR)
            self._recover()
        else:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            self._write_header()

    @property
    def last_seq(self) -> int:
        """Highest number recorded; 0 while the base is unknown."""
        return 0 if self._base is None else self._base + len(self._starts)

    @property
    def acknowledged_seq(self) -> int:
        """Highest number that the relay is known to have stored."""
        return self._acknowledged

    def append(self, event: ProgressEvent) -> bool:
        """
        Record an event under the next number.

        Returns: Whether it is new; an event whose key is known is dropped.
        Raises: JournalFull: too many bytes wait for the relay. OSError: the spool cannot be written.
        """
        key = _digest(event.key)
        if key in self._keys:
            return False
        line = _EVENT.dump_json(event, exclude_none=True) + b"\n"
        if self._end + len(line) > MAX_JOB_BYTES:
            self._compact()
            if self._end + len(line) > MAX_JOB_BYTES:
                raise JournalFull(self._path.stem, MAX_JOB_BYTES)
        self._write_at_end(line)
        self._starts.append(self._end - len(line))
        self._keys.add(key)
        return True

    def event(self, seq: int) -> ProgressEvent | None:
        """Return the event with that number; None if it is not recorded, or no longer kept, or the base is unknown."""
        index = -1 if self._base is None else seq - self._base - 1
        if not 0 <= index < len(self._starts):
            return None
        return _EVENT.validate_json(self._line(index))

    def settle(self, acknowledged_seq: int) -> None:
        """
        Take the relay's word for what it has stored, at the start of each connection or attempt.

        The next event then follows `acknowledged_seq` without a gap: a journal without a base gets it, one that is
        behind the relay (its tail was lost) drops what the relay has, and one that no longer keeps what a restored
        relay lacks goes on with what it has.
        """
        if self._base is None:
            self._rewrite(acknowledged_seq, 0)
        elif acknowledged_seq > self.last_seq:
            self._rewrite(acknowledged_seq, len(self._starts))
        elif acknowledged_seq < self._base:
            self._rewrite(acknowledged_seq, 0)
        self._acknowledged = acknowledged_seq

    def acknowledge(self, seq: int) -> None:
        """Take note that the relay stored everything up to `seq`."""
        self._acknowledged = max(self._acknowledged, min(seq, self.last_seq))
        kept = self._kept_from()
        if 0 < kept < len(self._starts) and self._starts[kept] > _COMPACT_BYTES:
            self._compact()

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def remove(self) -> None:
        """Close and delete the file; idempotent."""
        self.close()
        self._path.unlink(missing_ok=True)

    def _kept_from(self) -> int:
        return 0 if self._base is None else max(0, self._acknowledged - self._base)

    def _line(self, index: int) -> bytes:
        start = self._starts[index]
        end = self._starts[index + 1] if index + 1 < len(self._starts) else self._end
        return os.pread(self._file, end - start, start)

    def _write_header(self) -> None:
        self._write_at_end(json.dumps({"base": self._base}).encode() + b"\n")

    def _write_at_end(self, content: bytes) -> None:
        # At a known offset: what a failed write left behind is overwritten by the next one.
        written = 0
        while written < len(content):
            written += os.pwrite(self._file, content[written:], self._end + written)
        self._end += len(content)

    def _compact(self) -> None:
        if self._base is not None and self._kept_from():
            self._rewrite(self._acknowledged, self._kept_from())

    def _rewrite(self, base: int, drop: int) -> None:
        """Replace the file by one whose first number follows `base`, with the events from index `drop` on."""
        lines = [self._line(index) for index in range(drop, len(self._starts))]
        fresh = self._path.with_suffix(".fresh")
        old = self._file
        self._file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.close(old)
        self._base, self._end, self._starts = base, 0, array("Q")
        self._write_header()
        for line in lines:
            self._starts.append(self._end)
            self._write_at_end(line)
        fresh.replace(self._path)

    def _recover(self) -> None:
        """Read the file as a killed process left it."""
        size = os.fstat(self._file).st_size
        content = os.pread(self._file, size, 0)
        header, newline, _ = content.partition(b"\n")
        base = _base_of(header) if newline else None
        if not newline or base is False:
            # Not even the header arrived, so no event was reported either.
            os.ftruncate(self._file, 0)
            self._write_header()
            return
        self._base = None if base is None else int(base)
        self._acknowledged = self._base or 0
        self._end = len(header) + 1
        for line in content[self._end :].splitlines(keepends=True):
            key = _key_of(line)
            if key is None:
                break
            self._starts.append(self._end)
            self._keys.add(_digest(key))
            self._end += len(line)
        os.ftruncate(self._file, self._end)


class Spool:
    """
    The directory of all journals.

    Args:
        directory: Made when it is missing; holds nothing else.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def open(self, job_id: str, base: int | None) -> Journal:
        """Open the journal of a job, made with this base when there is none. Raises: OSError."""
        return Journal(self._directory / f"{job_id}{_SUFFIX}", base)

    def discard_others(self, job_ids: set[str]) -> None:
        """Delete the journals of all other jobs: they ended, or their checkpoint is gone and with it their story."""
        for path in self._stale(job_ids):
            path.unlink(missing_ok=True)

    def _stale(self, job_ids: set[str]) -> Iterator[Path]:
        yield from (path for path in self._directory.iterdir() if path.stem not in job_ids or path.suffix != _SUFFIX)


def _digest(key: str) -> bytes:
    """Return 8 bytes that stand for a key: 20,000 objects' keys would take megabytes."""
    return blake2b(key.encode(), digest_size=8).digest()


def _base_of(header: bytes) -> int | bool | None:
    """Return the header's base, False if it is no header."""
    try:
        base = json.loads(header)["base"]
    except (ValueError, KeyError, TypeError):
        return False
    return base if base is None or isinstance(base, int) else False


def _key_of(line: bytes) -> str | None:
    """Return the key of an event's line, None if the line was cut off."""
    if not line.endswith(b"\n"):
        return None
    try:
        key = json.loads(line)["key"]
    except (ValueError, KeyError, TypeError):
        return None
    return key if isinstance(key, str) else None
