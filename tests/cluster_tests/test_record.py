"""The record clears what it names, survives being cut short, and never touches anything else."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import cgroups
from tests.cluster.errors import ClusterError
from tests.cluster.process import start
from tests.cluster.record import STATE, Record, is_zombie, reap_dead, records, start_time
from tests.polling import wait_until

SHARED = "10.213.0.253"
"""An address of these tests alone, on the loopback link."""


@pytest.fixture
def record() -> Iterator[Record]:
    """Give a record of the test's own."""
    fresh = Record.create(f"rec-{os.getpid()}-{secrets.token_hex(3)}")
    yield fresh
    fresh.clear()


def loopback() -> str:
    """Return the addresses of the loopback link."""
    return subprocess.run(["ip", "-o", "address", "show", "lo"], capture_output=True, text=True, check=True).stdout


def test_a_line_cut_short_by_a_kill_is_passed_over(record: Record) -> None:
    """Entries before and after a torn one count: it was written ahead, so its thing was never made."""
    record.note("link", name="before")
    with (record.directory / "journal.jsonl").open("a") as journal:
        journal.write('{"kind": "link", "na\n')
    record.note("link", name="after")
    assert [entry["name"] for entry in record.entries("link")] == ["before", "after"]


def test_only_names_have_records() -> None:
    """Nothing that could leave the directory of records is ever opened, claimed or cleared."""
    for wrong in ("..", "../..", "/", "a/b", "lock/", ".hidden"):
        for attempt in (Record.create, Record.open, Record.claim):
            with pytest.raises(ClusterError, match="is no cluster name"):
                attempt(wrong)


def test_numbers_are_never_shared(record: Record) -> None:
    """Two records at the same time have different numbers, and so different addresses."""
    other = Record.create(f"{record.name[:26]}-two")
    try:
        assert other.number != record.number
        assert {other.number, record.number} <= {entry.number for entry in records()}
    finally:
        other.clear()
    assert not other.directory.exists()


def test_a_shared_address_goes_with_its_last_user(record: Record) -> None:
    """The first user adds it, the last one removes it, and a second mention changes nothing."""
    other = Record.create(f"{record.name[:26]}-two")
    record.share_address(SHARED)
    other.share_address(SHARED)
    other.share_address(SHARED)
    other.clear()
    assert SHARED in loopback()
    record.clear()
    assert SHARED not in loopback()


def test_a_daemon_that_detached_twice_dies_with_the_record(record: Record) -> None:
    """What forks, leaves its session and loses its parent is still in the group."""
    group = cgroups.process_group(record.name)
    record.note("cgroup", path=str(group))
    cgroups.make(group)
    note = record.directory / "daemon"
    script = f"setsid sh -c 'setsid sh -c \"echo \\$\\$ > {note}; exec sleep 600\" &' & wait"
    start(record, group, "parent", ["/bin/sh", "-c", script])
    pid = int(str(wait_until(lambda: note.exists() and note.read_text().strip(), "the daemon")))
    assert start_time(pid) > 0
    record.clear()
    # Its parent is the machine's init now, which may take a moment to collect what is left of it.
    wait_until(lambda: start_time(pid) == 0 or is_zombie(pid), "the end of the daemon")
    assert not group.exists()


def test_a_process_with_the_number_of_a_recorded_one_is_spared(record: Record) -> None:
    """A process id that was used again names another process: its start time tells."""
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        record.note("process", pid=bystander.pid, start=start_time(bystander.pid) - 1, name="gone")
        record.clear()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_clearing_goes_on_after_a_kill_in_its_middle() -> None:
    """A tool killed while it cleared leaves its journal, and the next one finishes."""
    name = f"rec-{os.getpid()}-{secrets.token_hex(3)}"
    script = (
        "import os, signal, sys\n"
        "from tests.cluster import record\n"
        "made = record.Record.create(sys.argv[1])\n"
        "(made.directory / 'etcd').mkdir()\n"
        "made.note('link', name='flc-none')\n"
        "record._delete_link = lambda name: os.kill(os.getpid(), signal.SIGKILL)\n"
        "made.clear()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, name], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert (STATE / name / "etcd").exists()
    reap_dead()
    assert not (STATE / name).exists()


def test_a_mount_left_in_the_directory_is_detached_and_its_files_survive(record: Record, tmp_path: Path) -> None:
    """Removing the directory must never reach into something mounted there."""
    kept = tmp_path / "kept"
    kept.write_text("precious")
    point = record.directory / "mnt"
    point.mkdir()
    subprocess.run(["mount", "--bind", str(tmp_path), str(point)], check=True)
    record.clear()
    assert kept.read_text() == "precious"
    assert not record.directory.exists()
