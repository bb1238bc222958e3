"""
What 500 idle agents cost a relay: memory, CPU and time to connect; all of them from one process, by mutual TLS.

The relay is the installed command. The peers are the same library's plain server on asyncio's loop and on uvloop, with
the same certificates and the same clients, and nothing behind it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.bench.figures import Figure, Peer
from tests.bench.processes import KIB, cpu_seconds_of, memory_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.workplace import Workplace
    from tests.integration.relay_process import RelayProcess

WARM_UP: Final = 10
"""Connected before the measurement: what a server allocates once is not an agent's cost."""
AGENTS: Final = 500
"""Connected after those; enrolled are both."""
SETTLE_SECONDS: Final = 25.0
"""Two rounds of heartbeats, so that everything an idle connection ever holds was allocated."""
IDLE_SECONDS: Final = 20.0
"""Two rounds of heartbeats again, for CPU."""
_TARGET_KIB: Final = 64


@dataclass
class Cost:
    """What one server paid for the agents."""

    connections: int
    anonymous_kib: float
    """For each connection."""
    connects_per_second: float
    cpu_milliseconds: float
    """To connect one agent, all the server does for it included."""
    idle_cpu_percent: float
    """Of one core, with all agents connected."""


class FleetProcess:
    """The load, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def tell(self, *words: str) -> dict[str, Any]:
        """Give a command and wait for its answer. Raises: ChildProcessError: the fleet ended."""
        if self._process.stdin is None or self._process.stdout is None:
            raise ChildProcessError("the fleet was started without its pipes")
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise ChildProcessError(f"the fleet of agents ended at `{words[0]}`; what it said is above")
        found: dict[str, Any] = json.loads(answer)
        return found


def measure(workplace: Workplace) -> list[Figure]:
    """Enrol the agents with a relay, then connect them to it and to each peer in turn."""
    relay = workplace.relay({"FAIRLEAD_RELAY_UNIDENTIFIED_PER_MINUTE": "1000000"})
    with _fleet() as fleet:
        enrolled = fleet.tell("enrol", relay.agent_url, *_tokens(relay))
        # A fresh process: what enrolling allocated must not pass for connections, or hide them.
        relay.stop()
        relay.start()
        if relay.process is None:
            raise ChildProcessError("the relay did not start again")
        ours = _cost(fleet, "connect", relay.agent_url, relay.process.pid)
        relay.close()
        peers = {}
        for loop in ("asyncio", "uvloop"):
            with _plain_server(relay.data_dir, loop) as (pid, port):
                peers[loop] = _cost(fleet, "open", f"wss://localhost:{port}", pid)
    return _figures(ours, peers["asyncio"], peers["uvloop"], enrolled)


def _figures(ours: Cost, stock: Cost, bare: Cost, enrolled: dict[str, Any]) -> list[Figure]:
    stock_name, bare_name = "plain websockets server on asyncio", "plain websockets server on uvloop"
    samples = f"{ours.connections} agents"
    rate = enrolled["count"] / enrolled["seconds"]
    return [
        Figure(
            name="memory for each idle agent, anonymous", value=ours.anonymous_kib, unit="KiB", samples=samples,
            peer=Peer(name=stock_name, value=stock.anonymous_kib), target=f"≤ {_TARGET_KIB} KiB",
            is_met=ours.anonymous_kib <= _TARGET_KIB,
            note="TLS, websocket, session and dispatcher; the store's share is on disk",
        ),
        Figure(
            name="memory for each idle agent, beside the bare library on the same loop", value=ours.anonymous_kib,
            unit="KiB", samples=samples, peer=Peer(name=bare_name, value=bare.anonymous_kib),
        ),
        Figure(
            name="CPU of the relay to connect an agent", value=ours.cpu_milliseconds, unit="ms", samples=samples,
            peer=Peer(name=stock_name, value=stock.cpu_milliseconds),
            note="handshake, upgrade, hello, one durable write and welcome; the peer does the first two",
        ),
        Figure(
            name="agents connected a second", value=ours.connects_per_second, unit="1/s", samples=samples,
            peer=Peer(name=stock_name, value=stock.connects_per_second),
            note="the load needs the second core, and more of it than the relay needs of the first",
        ),
        Figure(
            name=f"CPU of the relay with {ours.connections} idle agents", value=ours.idle_cpu_percent,
            unit="% of a core", samples=f"{IDLE_SECONDS:.0f} s",
            peer=Peer(name=stock_name, value=stock.idle_cpu_percent),
            note="a heartbeat of each agent every 10 s; the peer sends pings every 20 s",
        ),
        Figure(name="agents enrolled a second", value=rate, unit="1/s", samples=samples,
               note="two connections each: one for the CA, one to enrol; the certificate is signed and stored"),
    ]  # fmt: skip


def _tokens(relay: RelayProcess) -> list[str]:
    api = relay.client(relay.token("admin", "fleet"))
    path = "/v1/organizations/fleet/clusters"
    names = (f"cluster-{number}" for number in range(WARM_UP + AGENTS))
    return [api.ask("POST", path, {"name": name}, 201)["enrolment"]["token"] for name in names]


def _cost(fleet: FleetProcess, verb: str, url: str, pid: int) -> Cost:
    """Connect a few agents to warm the server up, then all others to measure."""
    fleet.tell(verb, url, str(WARM_UP))
    time.sleep(SETTLE_SECONDS / 5)
    memory_before, cpu_before = memory_of(pid), cpu_seconds_of(pid)
    connected = fleet.tell(verb, url, str(AGENTS))
    cpu = cpu_seconds_of(pid) - cpu_before
    time.sleep(SETTLE_SECONDS)
    grown = memory_of(pid).anonymous - memory_before.anonymous
    idle_before = cpu_seconds_of(pid)
    time.sleep(IDLE_SECONDS)
    idle = cpu_seconds_of(pid) - idle_before
    fleet.tell("leave")
    count = int(connected["count"])
    return Cost(
        connections=count,
        anonymous_kib=grown / KIB / count,
        connects_per_second=count / connected["seconds"],
        cpu_milliseconds=cpu * 1000 / count,
        idle_cpu_percent=100 * idle / IDLE_SECONDS,
    )


@contextmanager
def _fleet() -> Iterator[FleetProcess]:
    argv = [sys.executable, "-m", "tests.bench.fleet"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield FleetProcess(process)
        finally:
            process.kill()


@contextmanager
def _plain_server(data_dir: Path, loop: str) -> Iterator[tuple[int, int]]:
    """Run the peer. Yields: Its process id and its port."""
    argv = [sys.executable, "-m", "tests.bench.plain_server", str(data_dir), loop]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = process.stdout.readline() if process.stdout else ""
            if not port:
                raise ChildProcessError("the plain websockets server did not start; what it said is above")
            yield process.pid, int(port)
        finally:
            process.kill()
