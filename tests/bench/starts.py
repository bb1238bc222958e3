"""
How long the images take from their start until they are of use: a relay that serves, an agent that is connected.

They run unpacked, as a kubelet's runtime would run them, beside a real API server; pulling them and what a kubelet does
before is not in it. CPU time, which others on the machine do not disturb, is that of a life, its end included.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench.commands import children_cpu_seconds
from tests.bench.figures import Figure, median, spread
from tests.cluster.registry import session_registry
from tests.e2e.installation import make_installation
from tests.polling import wait_until
from tests.product.images import product_image
from tests.product.unpacked import UnpackedImage, serving, unpack, volume

if TYPE_CHECKING:
    from tests.bench.workplace import Workplace
    from tests.e2e.installation import AgentProcess

ROUNDS: Final = 7
_TARGET_SECONDS: Final = 2.0
_CONNECT_SECONDS: Final = 60.0
_ROOT: Final = 0


def measure(workplace: Workplace) -> list[Figure]:
    """Start each image again and again."""
    with session_registry() as registry:
        relay = unpack(product_image(registry, "relay"), workplace.folder("image"))
        agent = unpack(product_image(registry, "agent"), workplace.folder("image"))
    first, later = _relay_starts(relay, workplace)
    return [
        _figure("relay, first start: keys, certificates and database are made", first),
        _figure("relay, every other start", later),
        _figure("agent, enrolled before, until it is connected", _agent_starts(agent, workplace)),
    ]


@dataclass(frozen=True)
class _Start:
    """One of them."""

    seconds: float
    """Until it was of use."""
    cpu_seconds: float
    """Of its whole life."""


def _relay_starts(image: UnpackedImage, workplace: Workplace) -> tuple[list[_Start], list[_Start]]:
    first: list[_Start] = []
    later: list[_Start] = []
    for _ in range(ROUNDS):
        data = volume(workplace.folder("relay") / "volume")
        for starts in (first, later):
            used = children_cpu_seconds()
            with serving(image, {"/tmp": data}, {"FAIRLEAD_RELAY_DATA_DIR": "/tmp/data"}) as seconds:
                pass
            starts.append(_Start(seconds, children_cpu_seconds() - used))
    return first, later


def _agent_starts(image: UnpackedImage, workplace: Workplace) -> list[_Start]:
    relay = workplace.relay(for_cluster=True)
    installation = make_installation(relay, workplace.control_plane, workplace.folder("agent"))
    workplace.at_end().callback(installation.close)
    agent = installation.agent
    # The files of its pod, where they are on this machine.
    (image.root / str(agent.directory).lstrip("/")).mkdir(parents=True)
    volumes = {str(agent.directory): agent.directory}
    agent.program = tuple(image.argv([], volumes, agent.variables, user=_ROOT, has_network=True))
    starts = []
    for number in range(ROUNDS + 1):
        connected = _connections(agent)
        began, used = time.monotonic(), children_cpu_seconds()
        agent.start()
        wait_until(partial(_has_connected, agent, connected), "the agent to be connected", _CONNECT_SECONDS)
        seconds = time.monotonic() - began
        _stop(agent)
        # The first one enrols.
        if number:
            starts.append(_Start(seconds, children_cpu_seconds() - used))
    return starts


def _connections(agent: AgentProcess) -> int:
    return agent.log.count('"link.open"')


def _has_connected(agent: AgentProcess, before: int) -> bool:
    return _connections(agent) > before


def _stop(agent: AgentProcess) -> None:
    """End it in order, so that the next one need not wait for its lease: what runs in the image is a child."""
    process = agent.process
    if process is None:
        raise ChildProcessError("the agent did not start")
    (contained,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(contained), signal.SIGTERM)
    process.wait(_CONNECT_SECONDS)


def _figure(name: str, starts: list[_Start]) -> Figure:
    times = [start.seconds for start in starts]
    value = median(times)
    return Figure(
        name=name,
        value=value,
        unit="s",
        samples=spread(times),
        target=f"< {_TARGET_SECONDS:.0f} s",
        is_met=value < _TARGET_SECONDS,
        note=f"{median([start.cpu_seconds for start in starts]):.2f} s of CPU",
    )
