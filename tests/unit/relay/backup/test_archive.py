"""A backup's file: what goes in comes out, and what is not whole is not used at all."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead_relay.backup.archive import About, ArchiveReader, ArchiveWriter
from fairlead_relay.errors import BackupUnusable

ABOUT = About(relay_version="1.2.3", schema="v0001", store_epoch="epoch", taken_at=1_795_000_000.5)
ROWS = [["a", 1, 1.5, True, None, b"\x00\xff"], ["\u2028 \n ü", -1, 1e-9, False, "", b""]]
SHA256 = "a" * 64


def backup(about: About = ABOUT, *, finish: bool = True) -> bytes:
    """Return a small backup."""
    target = io.BytesIO()
    writer = ArchiveWriter(target)
    writer.add_about(about)
    assert writer.add_table("rows", "abcdef", ROWS) == 2
    assert writer.add_table("none", "a", []) == 0
    writer.add("pki/root.pem", [b"root"])
    writer.add("pki/ca-2/root.key", [b"key"])
    writer.add(f"blobs/{SHA256}", [b"con", b"tent"])
    if finish:
        writer.finish()
    else:
        writer._tar.close()
        writer._zip.close()
    return target.getvalue()


def written(folder: Path, content: bytes) -> Path:
    """Write a file."""
    file = folder / "relay.backup"
    file.write_bytes(content)
    return file


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    """Every type of a cell, in the order of the tables, and as often as asked."""
    reader = ArchiveReader(written(tmp_path, backup()))
    assert reader.about == ABOUT
    for _ in range(2):
        assert [(name, columns, list(rows)) for name, columns, rows in reader.tables()] == [
            ("rows", list("abcdef"), ROWS),
            ("none", ["a"], []),
        ]
        assert reader.pki() == {"root.pem": b"root", "ca-2/root.key": b"key"}
        assert [(sha256, content.read()) for sha256, content in reader.blobs()] == [(SHA256, b"content")]


def cut(content: bytes) -> bytes:
    """Leave out the end, as a full disk does."""
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    """Change one byte of a part, with gzip's own checksum made right again."""
    tar = gzip.decompress(content)
    at = tar.index(b"content")
    return gzip.compress(tar[:at] + b"C" + tar[at + 1 :])


def foreign(content: bytes) -> bytes:
    """Add a part that leads out of its folder."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("pki/../../etc/passwd"))
    return gzip.compress(target.getvalue())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "it is damaged or was cut short"),
        (flip, "its parts are not those it lists"),
        (foreign, "it holds 'pki/../../etc/passwd', which no backup does"),
        (lambda _: b"", "it is damaged or was cut short"),
        (lambda _: b"something else", "it is damaged or was cut short"),
        (lambda _: gzip.compress(b"something else"), "it is damaged or was cut short"),
        (lambda _: gzip.compress(bytes(10_240)), "it has no backup.json"),
        (lambda _: backup(finish=False), "its parts are not those it lists"),
        (lambda _: backup(About("9.9.9", "v9999", "epoch", 0.0, format=2)), "its format 2 is of a newer relay"),
    ],
)
def test_what_is_not_whole_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes], words: str) -> None:
    """Before any of it is used."""
    with pytest.raises(BackupUnusable) as refused:
        ArchiveReader(written(tmp_path, damage(backup())))
    assert words in str(refused.value)


def test_a_backup_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """With the operating system's words."""
    with pytest.raises(BackupUnusable, match="it cannot be read: Is a directory"):
        ArchiveReader(tmp_path)
