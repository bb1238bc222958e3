"""
What a connected agent needs when there is nothing to do: the product's own command against a real control plane.

The peer is an interpreter that has imported what the agent imports and does nothing: the floor of this language and
these libraries. Beside it, how soon deployments start on this agent, whose checkpoint is written to the API server
before it accepts.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from fairlead_cli.deployment_ids import new_deployment_id
from tests.bench.dispatch import start_latency
from tests.bench.figures import Figure, Peer
from tests.bench.processes import MIB, Memory, cpu_seconds_of, memory_of
from tests.e2e.engine_world import config_map
from tests.e2e.installation import make_installation

if TYPE_CHECKING:
    from tests.bench.workplace import Workplace
    from tests.e2e.installation import Installation

SETTLE_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 30.0
DEPLOYMENTS: Final = 200
_TARGET_MIB: Final = 64
_IMPORTS: Final = "import fairlead_agent.app, uvloop; print('ready', flush=True); input()"


def measure(workplace: Workplace) -> list[Figure]:
    """Start one agent, leave it alone, look at it, and then give it deployments that change nothing."""
    relay = workplace.relay(for_cluster=True)
    installation = make_installation(relay, workplace.control_plane, workplace.folder("agent"))
    workplace.at_end().callback(installation.close)
    installation.agent.start()
    installation.until_agent("connected")
    process = installation.agent.process
    if process is None:
        raise ChildProcessError("the agent did not start")
    time.sleep(SETTLE_SECONDS)
    cpu_before = cpu_seconds_of(process.pid)
    time.sleep(IDLE_SECONDS)
    cpu_percent = 100 * (cpu_seconds_of(process.pid) - cpu_before) / IDLE_SECONDS
    idle = memory_of(process.pid)
    floor = _floor()
    latencies = _start_latency(installation)
    after = memory_of(process.pid)
    installation.close()
    relay.close()
    return [
        _memory("anonymous memory, idle", idle.anonymous, floor.anonymous, f"< {_TARGET_MIB} MiB"),
        _memory("resident memory, idle", idle.resident, floor.resident, ""),
        _memory(f"anonymous memory after {DEPLOYMENTS} deployments", after.anonymous, idle.anonymous, "", "idle"),
        Figure(name="CPU, idle", value=cpu_percent, unit="% of a core", samples=f"{IDLE_SECONDS:.0f} s"),
        *latencies,
    ]


def _memory(name: str, value: int, peer: int, target: str, peer_name: str = "imports alone") -> Figure:
    return Figure(
        name=name,
        value=value / MIB,
        unit="MiB",
        samples="1 agent",
        peer=Peer(name=peer_name, value=peer / MIB),
        target=target,
        is_met=value / MIB < _TARGET_MIB if target else None,
    )


def _floor() -> Memory:
    """Measure a process that has imported the agent and does nothing."""
    argv = [sys.executable, "-c", _IMPORTS]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise ChildProcessError("an interpreter could not import the agent; what it said is above")
            return memory_of(process.pid)
        finally:
            process.kill()


def _start_latency(installation: Installation) -> list[Figure]:
    bundle = installation.upload([config_map("settings", colour="blue")])

    def ask() -> str:
        body = {"deployment_id": new_deployment_id(), "bundle_sha256": bundle.sha256}
        made = installation.api.ask("POST", f"{installation.environment}/deployments", body, 202)
        return str(made["job"]["id"])

    follower = installation.relay.client(installation.relay.token("viewer", installation.organization))
    return start_latency(follower, installation.path, ask, "deployment, real agent", DEPLOYMENTS)
