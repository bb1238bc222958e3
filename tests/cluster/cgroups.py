"""
Control groups of a cluster: one to hold every process it starts, and one per node for its pods.

The process group is in the unified hierarchy, where one write kills a whole tree at once: a program that forks and
detaches (containerd's shims do) cannot slip away, so nothing is ever looked up by name. Must not: change a group that
no cluster made.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from tests.cluster.errors import MissingTool, NotReady

_TOP = "fairlead-cluster"
"""Parent of all our groups in each hierarchy; removed with the last of them."""
_CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")
"""A cpuset group accepts no process until both are filled."""


def unified_root() -> Path:
    """
    Return the mount point of the unified (version 2) hierarchy.

    Raises: MissingTool: None is mounted.
    """
    for kind, mount in _mounts():
        if kind == "cgroup2":
            return mount
    raise MissingTool("the unified cgroup hierarchy", "mount cgroup2, as Debian's systemd and hybrid set-ups do")


def process_group(cluster: str) -> Path:
    """Return the group (not yet made) that all processes of `cluster` live in."""
    return unified_root() / _TOP / cluster


def pod_groups(cluster: str, node: str) -> tuple[str, list[Path]]:
    """
    Return where the kubelet of a node puts its pods.

    Returns: The path it is told, below each hierarchy's root, and the directories (not yet made), one per hierarchy.
    """
    relative = f"/{_TOP}/{cluster}-{node}"
    return relative, [mount / relative.lstrip("/") for _, mount in _mounts()]


def memory_group(cluster: str, name: str) -> Path | None:
    """
    Return the group (not yet made) that counts the memory of a process of `cluster` alone.

    Returns: A directory of the hierarchy of version 1 that the memory controller has; None where it has none.
    """
    for _, mount in _mounts():
        if (mount / "memory.stat").exists() and (mount / "memory.usage_in_bytes").exists():
            return mount / _TOP / f"{cluster}-{name}"
    return None


def make(group: Path) -> None:
    """Make a group and its parents, ready to take processes."""
    missing = [path for path in (group, *group.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        for name in _CPUSET_FILES:
            inherited = path.parent / name
            if inherited.exists():
                (path / name).write_text(inherited.read_text())


def kill(group: Path, *, seconds: float = 10.0) -> None:
    """
    Kill every process in a group and below, and wait until they are gone.

    Args:
        group: A group of ours; it may be missing.
        seconds: Deadline; killed processes leave within milliseconds unless the disk is stuck.
    Raises: NotReady: Some process is still there.
    """
    if not group.exists():
        return
    deadline = time.monotonic() + seconds
    while members := _members(group):
        switch = group / "cgroup.kill"
        if switch.exists():
            switch.write_text("1")
        else:
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if time.monotonic() >= deadline:
            raise NotReady(f"the end of the processes in {group}", seconds, f"still there: {sorted(members)}")
        time.sleep(0.01)


def remove(group: Path, *, seconds: float = 10.0) -> None:
    """
    Remove a group, those below it, and our common parent when this was its last.

    Args:
        group: A group of ours without processes; it may be missing.
        seconds: Deadline: the kernel keeps a group busy until its last process is wholly taken down.
    Raises: NotReady: Some group stayed busy.
    """
    deadline = time.monotonic() + seconds
    while group.exists():
        for directory, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                Path(directory).rmdir()
        if group.exists():
            if time.monotonic() >= deadline:
                raise NotReady(f"the removal of {group}", seconds, "it is busy")
            time.sleep(0.01)
    parent = group.parent
    if parent.name == _TOP and parent.exists():
        # Busy while another cluster has a group here: that one removes it.
        with contextlib.suppress(OSError):
            parent.rmdir()


def _members(group: Path) -> set[int]:
    members: set[int] = set()
    for directory, _, _ in os.walk(group):
        with contextlib.suppress(FileNotFoundError):
            members.update(int(line) for line in (Path(directory) / "cgroup.procs").read_text().split())
    return members


def _mounts() -> list[tuple[str, Path]]:
    """Return (file system type, mount point) of every cgroup hierarchy."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split()[0]
        if kind in {"cgroup", "cgroup2"}:
            found.append((kind, Path(before.split()[4])))
    return found
