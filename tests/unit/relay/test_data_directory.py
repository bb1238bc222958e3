"""The data directory: one relay at a time, and its ready file."""

import json
import os
import stat
from pathlib import Path

import pytest

from fairlead_relay.data_directory import DataDirectory
from fairlead_relay.errors import DataDirectoryUnusable


def test_it_is_made_for_its_owner_only_if_its_parent_exists(tmp_path: Path) -> None:
    """A mistyped path must not grow a tree somewhere."""
    DataDirectory(tmp_path / "data")
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    with pytest.raises(DataDirectoryUnusable):
        DataDirectory(tmp_path / "missing" / "data")


def test_one_relay_holds_it_and_what_a_killed_one_left_is_removed(tmp_path: Path) -> None:
    """The lock ends with the process; its ready file does not."""
    first = DataDirectory(tmp_path)
    first.ready_file.write_text("of a relay that was killed")
    first.hold()
    assert not first.ready_file.exists()
    with pytest.raises(DataDirectoryUnusable, match="another relay"):
        DataDirectory(tmp_path).hold()
    first.release()
    first.release()
    second = DataDirectory(tmp_path)
    second.hold()
    second.release()


def test_ready_says_where_and_who(tmp_path: Path) -> None:
    """Whoever started the relay reads it; release removes it."""
    directory = DataDirectory(tmp_path)
    directory.hold()
    directory.say_ready("https://a", "wss://b", "127.0.0.1:1", "[::]:2")
    listens = {"api_listen": "127.0.0.1:1", "agent_listen": "[::]:2"}
    expected = {"api_url": "https://a", "agent_url": "wss://b", **listens, "pid": os.getpid()}
    assert json.loads(directory.ready_file.read_text()) == expected
    directory.release()
    assert not directory.ready_file.exists()


def test_the_relays_id_stays_the_same(tmp_path: Path) -> None:
    """By it a restarted relay knows which connections were its own."""
    assert DataDirectory(tmp_path).relay_id() == DataDirectory(tmp_path).relay_id()
    (tmp_path / "relay-id").unlink()
    (tmp_path / "relay-id").mkdir()
    with pytest.raises(DataDirectoryUnusable):
        DataDirectory(tmp_path).relay_id()
