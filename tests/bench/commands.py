"""
How long the `fairlead` command takes to say something: what a person feels each time.

Compared with the interpreter alone, which no Python program can beat, and with kubectl, which is no Python program.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.figures import Figure, Peer, median, spread
from tests.cluster.binaries import binary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.workplace import Workplace

ROUNDS = 21
_SECONDS = 30.0
_HELP_SECONDS = 0.15
"""What click with lazy imports was chosen for, see docs/decisions/0010-libraries.md."""


def measure(workplace: Workplace) -> list[Figure]:
    """Run each command in turn, round after round, so that a disturbance meets all of them."""
    home = workplace.folder("home")
    fairlead = str(Path(sys.prefix) / "bin" / "fairlead")
    commands = {
        "interpreter": [sys.executable, "-c", "pass"],
        "kubectl": [str(binary("kubectl")), "version", "--client"],
        "help": [fairlead, "--help"],
        "version": [fairlead, "version"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    used: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(ROUNDS + 1):
        for name, argv in commands.items():
            seconds, cpu_seconds = _run(argv, home)
            # The first round reads files from the disk and writes byte code.
            if number:
                times[name].append(seconds)
                used[name].append(cpu_seconds)
    interpreter = Peer(name="python -c pass", value=median(times["interpreter"]))
    kubectl = Peer(name="kubectl version --client", value=median(times["kubectl"]))
    shown = median(times["help"])
    return [
        Figure(
            name="`fairlead --help`",
            value=shown,
            unit="s",
            samples=spread(times["help"], 3),
            peer=interpreter,
            target=f"≤ {_HELP_SECONDS} s",
            is_met=shown <= _HELP_SECONDS,
            note=_cpu(used["help"], used["interpreter"]),
        ),
        Figure(
            name="`fairlead version`, not logged in",
            value=median(times["version"]),
            unit="s",
            samples=spread(times["version"], 3),
            peer=kubectl,
            note=_cpu(used["version"], used["kubectl"]),
        ),
    ]


def _cpu(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Say what others on the machine cannot disturb."""
    return f"{median(ours):.3f} s of CPU, the other {median(theirs):.3f} s"


def _run(argv: Sequence[str], home: Path) -> tuple[float, float]:
    """Run a command. Returns: Seconds it took, and seconds of CPU it used."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    used = children_cpu_seconds()
    began = time.perf_counter()
    subprocess.run(argv, env=environment, capture_output=True, check=True, timeout=_SECONDS)
    return time.perf_counter() - began, children_cpu_seconds() - used


def children_cpu_seconds() -> float:
    """Return the CPU time of all children of this process that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
