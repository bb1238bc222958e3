"""
The file that a backup is: a gzipped tar of plain parts, proved whole before any of it is used.

    backup.json               what this is: format, relay version, schema, store epoch, time
    tables/NAME.jsonl         first line the columns, then one row a line; bytes as {"base64": ...}
    pki/FILE, pki/ca-N/FILE   the certificate authority, keys included
    blobs/SHA256              a bundle's raw bytes
    end.json                  SHA-256 of every part before it: a file that was cut short has none

Rows are JSON and not the database's own format, so that a backup of SQLite restores into PostgreSQL, an old one into a
newer relay, and people can look into it with tar and jq. Knows no database and no folder of the relay.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from fairlead_relay.errors import BackupUnusable

FORMAT: Final = 1
ABOUT: Final = "backup.json"
END: Final = "end.json"
_COMPRESSION: Final = 3
"""Rows shrink to a tenth at any level."""
_SPOOL_BYTES: Final = 4 << 20
"""A part larger than this waits on the disk until its size is known, which tar writes first."""
_LARGEST_LINE: Final = 64 << 20
"""Of a table: a deployment's origins and statement are the largest cells, below 8 MiB."""
_LARGEST_JSON: Final = 256 << 20
"""Of backup.json and end.json: 100 bytes for each bundle."""
_PART: Final = re.compile(r"backup\.json|end\.json|tables/[a-z_]+\.jsonl|pki/(?:ca-\d+/)?[a-z.]+|blobs/[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class About:
    """What a backup says of itself."""

    relay_version: str
    schema: str
    """Revision of the tables."""
    store_epoch: str
    taken_at: float
    """Seconds since the epoch: nothing that was committed later is in it."""
    format: int = FORMAT


class ArchiveWriter:
    """
    Writes parts one after the other; what is not finished has no end.json.

    Args:
        target: Where the bytes go; written from front to back only.
    """

    def __init__(self, target: IO[bytes]) -> None:
        self._zip = gzip.GzipFile("", "wb", _COMPRESSION, target)
        self._tar = tarfile.open(fileobj=self._zip, mode="w|")  # noqa: SIM115  (finish() closes it)
        self._digests: dict[str, str] = {}

    def add(self, name: str, content: Iterable[bytes]) -> None:
        """Add a part, piece by piece."""
        digest = hashlib.sha256()
        with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as spool:
            for piece in content:
                digest.update(piece)
                spool.write(piece)
            entry = tarfile.TarInfo(name)
            entry.size = spool.tell()
            entry.mode = 0o600
            spool.seek(0)
            self._tar.addfile(entry, spool)
        self._digests[name] = digest.hexdigest()

    def add_about(self, about: About) -> None:
        """Add backup.json."""
        self.add(ABOUT, [_to_json(asdict(about))])

    def add_table(self, name: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> int:
        """Add a table and return the number of its rows."""
        count = 0

        def lines() -> Iterator[bytes]:
            nonlocal count
            yield _to_json(list(columns))
            for row in rows:
                count += 1
                yield _to_json([_to_cell(value) for value in row])

        self.add(f"tables/{name}.jsonl", lines())
        return count

    def finish(self) -> None:
        """Write end.json and the end of the file; the target is still open."""
        self.add(END, [_to_json(dict(self._digests))])
        self._tar.close()
        self._zip.close()


class ArchiveReader:
    """
    Reads a backup from front to back, as often as asked.

    Args:
        file: The backup.
    Raises: BackupUnusable: it is no backup, is of a newer format, was cut short or is damaged.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.about = self._check()

    def tables(self) -> Iterator[tuple[str, list[str], Iterator[list[Any]]]]:
        """Yield name, columns and rows of each table, in order; take the rows before the next table."""
        for name, part in self._parts("tables/"):
            columns: list[str] = json.loads(_line(part))
            yield name.removeprefix("tables/").removesuffix(".jsonl"), columns, _rows(part)

    def pki(self) -> dict[str, bytes]:
        """Return the files of the certificate authority by their paths below its folder."""
        return {name.removeprefix("pki/"): part.read() for name, part in self._parts("pki/")}

    def blobs(self) -> Iterator[tuple[str, IO[bytes]]]:
        """Yield hash and bytes of each bundle; take the bytes before the next one."""
        for name, part in self._parts("blobs/"):
            yield name.removeprefix("blobs/"), part

    def _parts(self, prefix: str = "") -> Iterator[tuple[str, IO[bytes]]]:
        try:
            with gzip.open(self.file) as unzipped, tarfile.open(fileobj=unzipped, mode="r|") as tar:
                for entry in tar:
                    part = tar.extractfile(entry) if entry.isreg() else None
                    if part is None or not _PART.fullmatch(entry.name):
                        raise BackupUnusable(str(self.file), f"it holds {entry.name[:100]!r}, which no backup does")
                    if entry.name.startswith(prefix):
                        yield entry.name, part
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise BackupUnusable(str(self.file), f"it is damaged or was cut short: {error}") from error
        except OSError as error:
            raise BackupUnusable(str(self.file), f"it cannot be read: {error.strerror or error}") from error

    def _check(self) -> About:
        """Read all of it once, so that nothing is changed for a backup that cannot be used to its end."""
        digests: dict[str, str] = {}
        about: About | None = None
        end: Mapping[str, str] | None = None
        for name, part in self._parts():
            if name == ABOUT:
                about = self._about(content := part.read(_LARGEST_JSON))
                digests[name] = hashlib.sha256(content).hexdigest()
            elif name == END:
                end = json.loads(part.read(_LARGEST_JSON))
            else:
                # typeshed wants readinto(), which every member of a tar has.
                digests[name] = hashlib.file_digest(part, "sha256").hexdigest()  # type: ignore[arg-type]
        if about is None:
            raise BackupUnusable(str(self.file), "it is no backup of a relay: it has no backup.json")
        if end != digests:
            raise BackupUnusable(str(self.file), "it is damaged or was cut short: its parts are not those it lists")
        return about

    def _about(self, content: bytes) -> About:
        try:
            facts = json.loads(content)
            if facts["format"] != FORMAT:
                raise BackupUnusable(str(self.file), f"its format {facts['format']} is of a newer relay; use that one")
            return About(**facts)
        except (ValueError, TypeError, KeyError) as error:
            raise BackupUnusable(str(self.file), f"its backup.json cannot be read: {error}") from error


def _rows(part: IO[bytes]) -> Iterator[list[Any]]:
    while line := _line(part):
        yield [_of_cell(value) for value in json.loads(line)]


def _line(part: IO[bytes]) -> bytes:
    return part.readline(_LARGEST_LINE)


def _to_json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _to_cell(value: object) -> object:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _of_cell(value: object) -> object:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value
