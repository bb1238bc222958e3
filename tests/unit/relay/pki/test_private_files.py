"""Files of secrets: whole or not at all, and for their owner only."""

import stat
from pathlib import Path

import pytest

from fairlead_relay.pki.private_files import create_folder, write_private


def mode(path: Path) -> int:
    """Return a file's permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_whole_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    """Also when what it replaces was open to everybody."""
    file = tmp_path / "key"
    file.write_bytes(b"old")
    file.chmod(0o644)
    write_private(file, b"new")
    assert (file.read_bytes(), mode(file)) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_put_in_place_leaves_nothing_behind(tmp_path: Path) -> None:
    """A folder in its place makes the last step fail."""
    (tmp_path / "key").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_private(tmp_path / "key", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_folder_appears_with_all_its_files_or_is_left_alone(tmp_path: Path) -> None:
    """The second of two first starts finds the first one's files."""
    folder = tmp_path / "pki"
    assert create_folder(folder, {"a": b"1", "b": b"2"})
    assert not create_folder(folder, {"a": b"other"})
    assert {file.name: (file.read_bytes(), mode(file)) for file in folder.iterdir()} == {
        "a": (b"1", 0o600),
        "b": (b"2", 0o600),
    }
    assert mode(folder) == 0o700
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_whose_parent_is_missing_is_an_error(tmp_path: Path) -> None:
    """It must not be taken for one that somebody else made."""
    with pytest.raises(FileNotFoundError):
        create_folder(tmp_path / "missing" / "pki", {"a": b"1"})


def test_losing_the_race_to_make_a_folder_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes start at once: both go on with the files of the quicker one."""
    folder = tmp_path / "pki"
    original = Path.rename

    def slower(self: Path, target: Path) -> Path:
        folder.mkdir()
        (folder / "a").write_bytes(b"quicker")
        return original(self, target)

    monkeypatch.setattr(Path, "rename", slower)
    assert not create_folder(folder, {"a": b"slower"})
    assert (folder / "a").read_bytes() == b"quicker"
    assert list(tmp_path.iterdir()) == [folder]
