"""
Write down everything a cluster makes before it is made, and clear it by that record alone.

Each cluster has one directory under `STATE` with a journal and a lock. The process that made it holds the lock (flock,
so that a SIGKILL frees it); a record whose lock is free and that was not kept on purpose is dead, and the next `up` or
`down` clears it. Must not: look for anything by name or pattern; what is not recorded is not ours.

Lock order: the global lock, then one record's lock. A record's directory appears and vanishes only under the global
lock, so whoever gets both knows that the directory is the one it looked at.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster import cgroups
from tests.cluster.commands import run
from tests.cluster.errors import ClusterError, CommandFailed, MissingTool, NameTaken, NotReady, UnknownCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE = Path("/var/lib/fairlead-cluster")
"""Home of all records: on disk, for containers' file systems; short, since a socket's path has 107 bytes at most."""
_JOURNAL = "journal.jsonl"
_LOCK = "lock"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_MNT_DETACH = 2
_NUMBERS = range(1, 251)
"""A record's number becomes the third byte of its addresses."""
_libc = ctypes.CDLL(None, use_errno=True)


class Record:
    """The journal of one cluster; the process that created it owns it until it ends or keeps it."""

    def __init__(self, directory: Path, lock: int | None) -> None:
        """Use `create` or `open`; `lock` is the descriptor that holds the record's lock, None for a visitor."""
        self.directory = directory
        self._lock = lock
        self._children: list[subprocess.Popen[bytes]] = []

    @classmethod
    def create(cls, name: str) -> Record:
        """
        Claim a name for the calling process, clearing dead remains of that name first.

        Args:
            name: Name of the cluster; also the directory's.
        Returns: The record, locked, with a number no other record has.
        Raises:
            ClusterError: That is no name.
            NameTaken: A live or kept record has that name.
            MissingTool: The caller is not root.
        """
        if os.geteuid() != 0:
            raise MissingTool("root", "network namespaces, mounts and control groups need it; run this as root")
        directory = _home_of(name)
        if (dead := cls._claim_dead(name)) is not None:
            dead.clear()
        with _globally():
            if directory.exists():
                raise NameTaken(name)
            taken = {record.number for record in records()}
            number = next((number for number in _NUMBERS if number not in taken), None)
            if number is None:
                raise ClusterError(
                    f"all {len(_NUMBERS)} cluster numbers are taken: run `python -m tests.cluster down --all`"
                )
            directory.mkdir()
            record = cls(directory, _try_lock(directory))
            record.note("record", name=name, number=number, owner=os.getpid(), boot=_boot())
        return record

    @classmethod
    def open(cls, name: str) -> Record:
        """
        Look at a record another process may own.

        Raises: UnknownCluster: There is none of that name, or it is dead.
        """
        record = cls(_home_of(name), None)
        if not record.alive:
            raise UnknownCluster(name, [other.name for other in records() if other.alive])
        return record

    @classmethod
    def _claim_dead(cls, name: str, *, kept_too: bool = False) -> Record | None:
        """Return the record of that name, locked, if nobody owns it (and it was not kept); None otherwise."""
        directory = _home_of(name)
        with _globally():
            if not directory.exists() or (lock := _try_lock(directory)) is None:
                return None
            record = cls(directory, lock)
            if record.kept and not kept_too:
                record.release()
                return None
            return record

    @classmethod
    def claim(cls, name: str) -> Record:
        """
        Take over a kept or dead record, to clear it.

        Raises:
            UnknownCluster: There is none of that name.
            NameTaken: A process that still runs owns it.
        """
        if (record := cls._claim_dead(name, kept_too=True)) is not None:
            return record
        if _home_of(name).exists():
            raise NameTaken(name)
        raise UnknownCluster(name, [record.name for record in records()])

    @property
    def name(self) -> str:
        """Name of the cluster."""
        return self.directory.name

    @property
    def number(self) -> int:
        """Number no other record has, 1 to 250; 0 while the record is being made."""
        return int(next(self.entries("record"), {"number": 0})["number"])

    @property
    def kept(self) -> bool:
        """Whether it outlives the process that made it."""
        return next(self.entries("kept"), None) is not None and self._booted_here()

    @property
    def alive(self) -> bool:
        """Whether somebody wants it: it was kept, or its owner runs."""
        if not self.directory.exists():
            return False
        if self._lock is not None or self.kept:
            return True
        with _globally():
            if not self.directory.exists():
                return False
            if (lock := _try_lock(self.directory)) is None:
                return True
            os.close(lock)
        return False

    def note(self, kind: str, **fields: str | int) -> None:
        """
        Append one entry; call it before the thing is made.

        A SIGKILL may cut the line short; then the thing was not made either, and readers pass over it.
        """
        line = json.dumps({"kind": kind, **fields}) + "\n"
        descriptor = os.open(self.directory / _JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def entries(self, kind: str) -> Iterator[dict[str, Any]]:
        """Yield the entries of one kind, oldest first."""
        try:
            lines = (self.directory / _JOURNAL).read_text().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry["kind"] == kind:
                    yield entry

    def adopt(self, child: subprocess.Popen[bytes]) -> None:
        """Hold a recorded child of this process, so that `clear` collects its exit code."""
        self._children.append(child)

    def keep(self) -> None:
        """Let it outlive this process: the command `up` ends while its cluster stays."""
        self.note("kept")

    def release(self) -> None:
        """Give the lock back without clearing anything."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def share_address(self, address: str) -> None:
        """
        Put an address on the host's loopback link, shared with other records.

        Args:
            address: IPv4 address without prefix. One that was there before us is left alone, now and later.
        """
        with _globally():
            ours = any(address in record._addresses() for record in records())
            present = _has_address(address)
            if present and not ours:
                return
            self.note("address", address=address)
            if not present:
                run(["ip", "address", "add", f"{address}/32", "dev", "lo"])

    def clear(self) -> None:
        """
        Undo everything the record names, then forget it. Safe to repeat after a kill in its middle.

        Raises: ClusterError: Something would not go away; the record stays, so that the next try knows of it.
        """
        groups = [Path(entry["path"]) for entry in self.entries("cgroup")]
        for group in groups:
            cgroups.kill(group)
        if self._booted_here():
            for entry in self.entries("process"):
                _kill(int(entry["pid"]), int(entry["start"]))
        for child in self._children:
            child.wait()
        for group in groups:
            cgroups.remove(group)
        _unmount_below(self.directory)
        for entry in self.entries("link"):
            _delete_link(entry["name"])
        self._remove_files()
        # One step, or two that end at the same time would each leave the address to the other.
        with _globally():
            others = [other for other in records() if other.name != self.name]
            for address in self._addresses().difference(*(other._addresses() for other in others)):
                if _has_address(address):
                    run(["ip", "address", "delete", f"{address}/32", "dev", "lo"])
            if self.directory.exists():
                shutil.rmtree(self.directory)
        self.release()

    def _addresses(self) -> set[str]:
        return {entry["address"] for entry in self.entries("address")}

    def _remove_files(self) -> None:
        """
        Remove everything but journal and lock: a kill in the middle must leave a record to go on from.

        This may take seconds on a busy disk, so only the record's own lock is held.
        """
        if below := _mounts_below(self.directory):
            raise ClusterError(f"{below[0]} is still mounted; nothing below {self.directory} was removed")
        if not self.directory.exists():
            return
        for path in self.directory.iterdir():
            if path.name not in {_JOURNAL, _LOCK}:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def _booted_here(self) -> bool:
        """Whether the record is of this boot: after another one its processes and mounts are gone anyway."""
        return next(self.entries("record"), {"boot": ""})["boot"] == _boot()


def records() -> list[Record]:
    """Return all records there are, live or dead, in the order of their names."""
    if not STATE.exists():
        return []
    return [Record(path, None) for path in sorted(STATE.iterdir()) if path.is_dir()]


def reap_dead() -> list[str]:
    """
    Clear every record whose owner died without clearing it.

    Returns: Names of those cleared.
    """
    cleared = []
    for name in [record.name for record in records()]:
        if (dead := Record._claim_dead(name)) is not None:
            dead.clear()
            cleared.append(name)
    return cleared


def start_time(pid: int) -> int:
    """
    Return when a process started, which together with its id names it for good.

    Returns: Clock ticks since boot; 0 if there is no such process.
    """
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(after_name.split()[19])


def _kill(pid: int, start: int, *, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while start_time(pid) == start and not is_zombie(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise NotReady(f"the end of process {pid}", seconds, "it is still there")
        time.sleep(0.01)


def _delete_link(name: str) -> None:
    present = Path("/sys/class/net") / name
    try:
        if present.exists():
            run(["ip", "link", "delete", name])
    except CommandFailed:
        # It went with its namespace, which the kernel takes down in its own time, between the look and the command.
        if present.exists():
            raise


def is_zombie(pid: int) -> bool:
    """Return whether a process has ended, though its parent may not have collected it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _has_address(address: str) -> bool:
    return any(
        line.split()[3] == f"{address}/32"
        for line in run(["ip", "-4", "-o", "address", "show", "dev", "lo"]).splitlines()
    )


def _home_of(name: str) -> Path:
    """Return a record's directory; the check keeps `clear`, which removes it, from ever being pointed elsewhere."""
    if not _NAME.fullmatch(name):
        raise ClusterError(f"{name!r} is no cluster name: use up to 32 lower-case letters, digits and inner hyphens")
    return STATE / name


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@contextmanager
def _globally() -> Iterator[None]:
    """Hold the lock that guards names, numbers and shared addresses; always for milliseconds."""
    STATE.mkdir(mode=0o711, parents=True, exist_ok=True)
    descriptor = os.open(STATE / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _try_lock(directory: Path) -> int | None:
    """Return a descriptor that holds the record's lock, or None if somebody else has it."""
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _mounts_below(directory: Path) -> list[str]:
    """Return mount points inside a directory, deepest first."""
    prefix = f"{directory}/"
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(prefix)), key=len, reverse=True)


def _unmount_below(directory: Path) -> None:
    while points := _mounts_below(directory):
        # Detached, not forced: whatever still holds a file there has been killed and lets go in its own time.
        raw = points[0].encode().decode("unicode_escape")
        if _libc.umount2(raw.encode(), _MNT_DETACH):
            number = ctypes.get_errno()
            raise ClusterError(f"unmounting {raw} failed: {os.strerror(number)}")
