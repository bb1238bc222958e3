"""
What 2,000 and 5,000 idle agents cost a relay: memory, CPU, time to connect and to answer; all by mutual TLS.

The relay is the installed command. The peers are the same library's plain server on asyncio's loop and on uvloop, with
the same certificates and the same clients, and nothing behind it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.bench.figures import Figure, Peer
from tests.bench.identities import mint
from tests.bench.processes import KIB, cpu_seconds_of, memory_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.workplace import Workplace
    from tests.integration.relay_process import RelayProcess

WARM_UP: Final = 10
"""Connected before the measurement: what a server allocates once is not an agent's cost."""
TIERS: Final = (2_000, 5_000)
"""Connected after those, all in all."""
PROCESSES: Final = 2
"""That are the agents."""
ENROLLED: Final = 200
"""Enrolled over the wire, to time that; the others' certificates are made beforehand."""
HANDSHAKES: Final = 500
ECHOES: Final = 1_000
SETTLE_SECONDS: Final = 25.0
"""Two rounds of heartbeats, so that everything an idle connection ever holds was allocated."""
IDLE_SECONDS: Final = 20.0
"""Two rounds of heartbeats again, for CPU."""
_TARGET_KIB: Final = 64
_TARGET_HANDSHAKE_MS: Final = 2


@dataclass
class Level:
    """What one server paid with so many agents connected."""

    agents: int
    anonymous_kib: float
    """For each connection."""
    connects_per_second: float
    """For those that came since the level before."""
    cpu_milliseconds: float
    """To connect one of them, all the server does for it included."""
    idle_cpu_percent: float
    """Of one core."""
    echo_p50_ms: float
    echo_p99_ms: float


@dataclass
class Cost:
    """What one server paid."""

    handshake_milliseconds: float
    """CPU for one TLS handshake with a client certificate, the connection's end included."""
    levels: list[Level] = field(default_factory=list)


class FleetProcess:
    """A part of the load, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def say(self, *words: str) -> None:
        """Give a command."""
        if self._process.stdin is None:
            raise ChildProcessError("the fleet was started without its pipes")
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for the answer. Raises: ChildProcessError: the fleet ended."""
        answer = "" if self._process.stdout is None else self._process.stdout.readline()
        if not answer:
            raise ChildProcessError("the fleet of agents ended; what it said is above")
        found: dict[str, Any] = json.loads(answer)
        return found

    def tell(self, *words: str) -> dict[str, Any]:
        """Give a command and wait for its answer."""
        self.say(*words)
        return self.hear()


class Load:
    """
    All agents.

    Args:
        parts: Processes, which share the work.
    """

    def __init__(self, parts: list[FleetProcess]) -> None:
        self.parts = parts

    def tell(self, verb: str, url: str, count: int) -> tuple[int, float]:
        """Have all do their share of something. Returns: How much was done, and in how many seconds."""
        for part in self.parts:
            part.say(verb, url, str(count // len(self.parts)))
        answers = [part.hear() for part in self.parts]
        return sum(int(one["count"]) for one in answers), max(float(one["seconds"]) for one in answers)

    def leave(self) -> None:
        """Close every connection."""
        for part in self.parts:
            part.say("leave")
        for part in self.parts:
            part.hear()


def measure(workplace: Workplace) -> list[Figure]:
    """Connect the agents to a relay, and to each peer in turn."""
    relay = workplace.relay({"FAIRLEAD_RELAY_UNIDENTIFIED_PER_MINUTE": "1000000"})
    with running_load() as load:
        enrolled = load.parts[0].tell("enrol", relay.agent_url, *_tokens(relay))
        # A fresh process: what enrolling allocated must not pass for connections, or hide them.
        relay.stop()
        files = [workplace.directory / f"agents-{number}" for number in range(PROCESSES)]
        mint(relay.data_dir, WARM_UP + TIERS[-1], files)
        for part, file in zip(load.parts, files, strict=True):
            part.tell("load", str(file))
        relay.start()
        if relay.process is None:
            raise ChildProcessError("the relay did not start again")
        ours = _cost(load, "connect", relay.agent_url, relay.process.pid)
        relay.close()
        peers = {}
        for loop in ("asyncio", "uvloop"):
            with plain_server(relay.data_dir, loop) as (pid, port):
                peers[loop] = _cost(load, "open", f"wss://localhost:{port}", pid)
    figures = [_handshake(ours, peers["asyncio"])]
    for ours_at, stock, bare in zip(ours.levels, peers["asyncio"].levels, peers["uvloop"].levels, strict=True):
        figures += _figures(ours_at, stock, bare)
    rate = enrolled["count"] / enrolled["seconds"]
    note = "two connections each: one for the CA, one to enrol; the certificate is signed and stored"
    figures.append(
        Figure(name="agents enrolled a second", value=rate, unit="1/s", samples=f"{ENROLLED} agents", note=note)
    )
    return figures


_STOCK: Final = "plain websockets server on asyncio"
_BARE: Final = "plain websockets server on uvloop"


def _handshake(ours: Cost, stock: Cost) -> Figure:
    return Figure(
        name="CPU of the relay for a TLS handshake", value=ours.handshake_milliseconds, unit="ms",
        samples=f"{HANDSHAKES} handshakes", peer=Peer(name=_STOCK, value=stock.handshake_milliseconds),
        target=f"≤ {_TARGET_HANDSHAKE_MS} ms", is_met=ours.handshake_milliseconds <= _TARGET_HANDSHAKE_MS,
        note="TCP, TLS 1.3 with a client certificate, and the close; user and system time",
    )  # fmt: skip


def _figures(ours: Level, stock: Level, bare: Level) -> list[Figure]:
    samples = f"{ours.agents:,} agents"
    of = f"with {ours.agents:,} agents"
    return [
        Figure(
            name=f"memory for each idle agent, anonymous, {of}", value=ours.anonymous_kib, unit="KiB", samples=samples,
            peer=Peer(name=_STOCK, value=stock.anonymous_kib), target=f"≤ {_TARGET_KIB} KiB",
            is_met=ours.anonymous_kib <= _TARGET_KIB,
            note="TLS, websocket, session and dispatcher; the store's share is on disk",
        ),
        Figure(
            name=f"the same beside the bare library on the same loop, {of}", value=ours.anonymous_kib,
            unit="KiB", samples=samples, peer=Peer(name=_BARE, value=bare.anonymous_kib),
        ),
        Figure(
            name=f"CPU of the relay to connect an agent, {of}", value=ours.cpu_milliseconds, unit="ms",
            samples=samples, peer=Peer(name=_STOCK, value=stock.cpu_milliseconds),
            note="handshake, upgrade, hello, one durable write and welcome; the peer does the first two",
        ),
        Figure(
            name=f"agents connected a second, {of}", value=ours.connects_per_second, unit="1/s", samples=samples,
            peer=Peer(name=_STOCK, value=stock.connects_per_second),
            note=f"{PROCESSES} processes are the agents, and need more CPU for it than the relay",
        ),
        Figure(
            name=f"echo P50, {of}", value=ours.echo_p50_ms, unit="ms", samples=f"{ECHOES:,}, one after the other",
            peer=Peer(name=_STOCK, value=stock.echo_p50_ms),
            note="a heartbeat and its answer while the others stay connected; the peer sends the bytes back",
        ),
        Figure(
            name=f"echo P99, {of}", value=ours.echo_p99_ms, unit="ms", samples=f"{ECHOES:,}, one after the other",
            peer=Peer(name=_STOCK, value=stock.echo_p99_ms),
        ),
        Figure(
            name=f"CPU of the relay, idle, {of}", value=ours.idle_cpu_percent,
            unit="% of a core", samples=f"{IDLE_SECONDS:.0f} s",
            peer=Peer(name=_STOCK, value=stock.idle_cpu_percent),
            note="a heartbeat of each agent every 10 s; the peer sends pings every 20 s",
        ),
    ]  # fmt: skip


def _tokens(relay: RelayProcess) -> list[str]:
    api = relay.client(relay.token("admin", "fleet"))
    path = "/v1/organizations/fleet/clusters"
    names = (f"cluster-{number}" for number in range(ENROLLED))
    return [api.ask("POST", path, {"name": name}, 201)["enrolment"]["token"] for name in names]


def _cost(load: Load, verb: str, url: str, pid: int) -> Cost:
    """Connect a few agents to warm the server up, then all others to measure."""
    load.tell(verb, url, WARM_UP)
    load.tell("shake", url, WARM_UP)
    time.sleep(SETTLE_SECONDS / 5)
    memory_before, cpu_before = memory_of(pid).anonymous, cpu_seconds_of(pid)
    shaken, _ = load.tell("shake", url, HANDSHAKES)
    time.sleep(1)  # the last ones are closed after they were counted
    cost = Cost((cpu_seconds_of(pid) - cpu_before) * 1000 / shaken)
    connected = 0
    for tier in TIERS:
        cpu_before = cpu_seconds_of(pid)
        count, seconds = load.tell(verb, url, tier - connected)
        cpu = cpu_seconds_of(pid) - cpu_before
        connected += count
        time.sleep(SETTLE_SECONDS)
        grown = memory_of(pid).anonymous - memory_before
        idle_before = cpu_seconds_of(pid)
        time.sleep(IDLE_SECONDS)
        idle = cpu_seconds_of(pid) - idle_before
        echo = load.parts[0].tell("echo", str(ECHOES))
        cost.levels.append(
            Level(
                agents=connected,
                anonymous_kib=grown / KIB / connected,
                connects_per_second=count / seconds,
                cpu_milliseconds=cpu * 1000 / count,
                idle_cpu_percent=100 * idle / IDLE_SECONDS,
                echo_p50_ms=echo["p50"] * 1000,
                echo_p99_ms=echo["p99"] * 1000,
            )
        )
    load.leave()
    return cost


@contextmanager
def running_load() -> Iterator[Load]:
    """Start the processes that are agents; they end on leaving."""
    argv = [sys.executable, "-m", "tests.bench.fleet"]
    with ExitStack() as stack:
        parts = []
        for _ in range(PROCESSES):
            process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            parts.append(FleetProcess(process))
        yield Load(parts)


@contextmanager
def plain_server(data_dir: Path, loop: str) -> Iterator[tuple[int, int]]:
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
