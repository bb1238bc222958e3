"""
What a process uses: memory and CPU time, of itself alone, read from /proc and from a control group of its own.

Must not: start or stop anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Memory:
    """Memory of a process, in bytes."""

    resident: int
    """All of it that is in RAM, files it shares with others included."""
    anonymous: int
    """What it alone made and what must stay: heap and stacks."""


def memory_of(pid: int) -> Memory:
    """Read the memory of a process. Raises: OSError: it is gone."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * KIB
    return Memory(resident=found["Rss"], anonymous=found["Anonymous"])


def joining(group: Path | None, argv: Sequence[str]) -> list[str]:
    """Return a command that joins a control group and becomes a program; without a group, only the latter."""
    if group is None:
        return list(argv)
    # Before it starts, since what was counted elsewhere stays counted there.
    return ["/bin/sh", "-c", 'echo 0 > "$0"/cgroup.procs && exec "$@"', str(group), *argv]


def working_set_of(group: Path) -> int:
    """
    Return what the kubelet compares with a container's memory: all that a group uses but files not read lately.

    Args:
        group: A control group of version 1.
    Returns: Bytes, those of the kernel for it and of files that it read first included.
    Source: https://kubernetes.io/docs/tasks/debug/debug-cluster/resource-metrics-pipeline/#memory
    """
    used = int((group / "memory.usage_in_bytes").read_text())
    counted = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return max(0, used - int(counted["total_inactive_file"]))


def cpu_seconds_of(pid: int) -> float:
    """Read the CPU time that the threads of a process have used, user and system. Raises: OSError: it is gone."""
    # To the nanosecond: the ticks of /proc/PID/stat are 10 ms, more than an idle agent uses in half a minute.
    spent = [int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(spent) / 1e9
