"""
What is left of connections that ended: tasks, descriptors and memory of relay and agents, over 10,000 of them.

The relay is the installed command, but for a count of its tasks; the agents are the product's link, in one process.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.bench.figures import Figure, Peer
from tests.bench.processes import KIB, memory_of
from tests.integration.relay_process import RelayProcess
from tests.polling import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.workplace import Workplace

AGENTS: Final = 4
CYCLES: Final = 10_000
ROUNDS: Final = 20
WARM_UP_ROUNDS: Final = 4
"""Of those; pools, caches and the allocator's arenas fill first."""
TARGET_BYTES: Final = 200
"""A cycle. One connection in 200 that was kept would show: each takes some 43 KiB."""
_CALM_SECONDS: Final = 20.0
"""How long the last connections may take to end on both sides."""


@dataclass(frozen=True)
class Left:
    """What a process holds."""

    tasks: int
    descriptors: int
    anonymous: int
    """Bytes."""


@dataclass(frozen=True)
class Both:
    """Both sides."""

    relay: Left
    agents: Left

    def is_calm(self, before: Both) -> bool:
        """Tell whether neither side has more tasks or descriptors than before."""
        return all(
            one.tasks <= other.tasks and one.descriptors <= other.descriptors
            for one, other in ((self.relay, before.relay), (self.agents, before.agents))
        )


class Cycle:
    """
    A relay and agents whose connections can be dropped.

    Args:
        relay: Running, as `counted_relay`.
        process: Of `cycling_agents`.
        tasks_file: Where the relay writes its count.
    """

    def __init__(self, relay: RelayProcess, process: subprocess.Popen[str], tasks_file: Path) -> None:
        self._relay = relay
        self._process = process
        self._tasks_file = tasks_file

    def drop(self, count: int) -> None:
        """Drop each agent's connection so often."""
        self._tell(f"cycle {count}")

    def look(self) -> Both:
        """Count what both sides hold now."""
        if self._relay.process is None:
            raise ChildProcessError("the relay is not running")
        self._tasks_file.unlink(missing_ok=True)
        relay_pid = self._relay.process.pid
        os.kill(relay_pid, signal.SIGUSR1)
        wait_until(self._tasks_file.exists, "the relay to count its tasks", _CALM_SECONDS)
        descriptors = len(list(Path(f"/proc/{relay_pid}/fd").iterdir()))
        relay = Left(int(self._tasks_file.read_text()), descriptors, memory_of(relay_pid).anonymous)
        told = self._tell("count")
        return Both(relay, Left(told["tasks"], told["descriptors"], memory_of(self._process.pid).anonymous))

    def look_when_calm(self, before: Both) -> Both:
        """Count once the last connections have ended; after a while, what there is."""
        seen = [before]

        def calm() -> bool:
            seen.append(self.look())
            return seen[-1].is_calm(before)

        with suppress(TimeoutError):
            wait_until(calm, "ended connections to be gone", _CALM_SECONDS)
        return seen[-1]

    def _tell(self, line: str) -> dict[str, Any]:
        if self._process.stdin is None or self._process.stdout is None:
            raise ChildProcessError("the agents were started without their pipes")
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise ChildProcessError("the agents ended")
        found: dict[str, Any] = json.loads(answer)
        return found


@contextmanager
def cycling(folder: Path, agents: int) -> Iterator[Cycle]:
    """Run a relay and so many agents, connected to it."""
    tasks_file = folder / "tasks"
    relay = RelayProcess(
        folder / "data", module="tests.bench.counted_relay", environment={"FAIRLEAD_TASKS_FILE": str(tasks_file)}
    )
    argv = [sys.executable, "-m", "tests.bench.cycling_agents"]
    try:
        relay.start()
        api = relay.client(relay.token("admin", "fleet"))
        made = [
            api.ask("POST", "/v1/organizations/fleet/clusters", {"name": f"cluster-{number}"}, 201)
            for number in range(agents)
        ]
        with (
            (folder / "agents.log").open("w") as log,
            subprocess.Popen(
                [*argv, relay.agent_url, str(folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            ) as process,
        ):  # fmt: skip
            try:
                cycle = Cycle(relay, process, tasks_file)
                cycle._tell("".join(f"{one['enrolment']['token']}\n" for one in made))
                yield cycle
            finally:
                process.kill()
    finally:
        relay.close()


def measure(workplace: Workplace) -> list[Figure]:
    """Drop connections and look at what is left, round by round."""
    with cycling(workplace.folder("cycles"), AGENTS) as cycle:
        before = cycle.look()
        rounds = []
        for _ in range(ROUNDS):
            cycle.drop(CYCLES // ROUNDS // AGENTS)
            rounds.append(cycle.look_when_calm(before))
    return [
        *_figures("relay", before.relay, [one.relay for one in rounds]),
        *_figures("agents", before.agents, [one.agents for one in rounds]),
    ]


def _figures(side: str, before: Left, after: Sequence[Left]) -> list[Figure]:
    samples = f"{CYCLES:,} connections of {AGENTS} agents"
    kept = after[WARM_UP_ROUNDS:]
    cycles = [CYCLES / ROUNDS * number for number in range(len(kept))]
    slope = statistics.linear_regression(cycles, [one.anonymous for one in kept]).slope
    shown = " ".join(f"{one.anonymous / KIB / KIB:.1f}" for one in after[:: ROUNDS // 5])
    figures = [
        Figure(
            name=f"{side}: {what} afterwards", value=float(last), unit=what, samples=samples,
            peer=Peer(name="before", value=float(first)), target="as before", is_met=last <= first,
        )
        for what, first, last in (
            ("tasks", before.tasks, after[-1].tasks), ("descriptors", before.descriptors, after[-1].descriptors),
        )
    ]  # fmt: skip
    figures.append(
        Figure(
            name=f"{side}: anonymous memory kept of each connection", value=slope, unit="bytes", samples=samples,
            target=f"< {TARGET_BYTES} bytes", is_met=slope < TARGET_BYTES,
            note=f"slope over the last {CYCLES * (ROUNDS - WARM_UP_ROUNDS) // ROUNDS:,}; MiB every "
            f"{CYCLES // 5:,} connections: {before.anonymous / KIB / KIB:.1f}, then {shown}",
        )
    )  # fmt: skip
    return figures
