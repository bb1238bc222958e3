"""
What a process uses, read from /proc: memory and CPU time, of itself alone.

Must not: start or stop anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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


def cpu_seconds_of(pid: int) -> float:
    """Read the CPU time that the threads of a process have used, user and system. Raises: OSError: it is gone."""
    # To the nanosecond: the ticks of /proc/PID/stat are 10 ms, more than an idle agent uses in half a minute.
    spent = [int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(spent) / 1e9
