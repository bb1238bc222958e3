"""
Events of one job: how fast an agent's progress is stored and seen, and whether a bulk stream beside it delays anything.

The relay is a process of its own, and so is the agent, with the product's journal, runner, link and TLS but events from
nowhere. Each event is timed from its append to the acknowledgement, which follows the commit, and to its arrival at a
follower of the server-sent events. The peer is the serial way: each event only after the acknowledgement of the last.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from tests.bench.event_source import KEY
from tests.bench.figures import Figure, Peer, percentile
from tests.bench.processes import MIB
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import make_tenant
from tests.polling import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from fairlead_shared.bundle import Bundle
    from tests.bench.workplace import Workplace
    from tests.integration.conftest import Tenant
    from tests.integration.relay_process import Api

RATE: Final = 200
"""Events a second that are promised."""
SECONDS: Final = 20
BURST: Final = 4_000
SERIAL: Final = 400
BUNDLE_BYTES: Final = 12 * MIB
"""Of the bundle that is fetched again and again: as much as one may hold, nearly."""
HEARTBEAT_SECONDS: Final = 0.25
TARGET_MS: Final = 100
_SEEN_SECONDS: Final = 30.0
_DISK_PAUSE_SECONDS: Final = 0.02


class Disk:
    """
    Makes small writes durable in a thread, one after the other with pauses: what the store's commits wait for.

    Args:
        file: Made anew, on the store's disk.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._ended = threading.Event()
        self._taken: list[float] = []
        self._thread = threading.Thread(target=self._write, name="disk", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def __str__(self) -> str:
        p99, longest = percentile(self._taken, 0.99) * 1000, max(self._taken) * 1000
        words = f"{p99:.0f} ms (P99 of {len(self._taken)}), at most {longest:.0f}"
        return f"meanwhile a write of 4 KiB with fdatasync took {words}"

    def _write(self) -> None:
        with self._file.open("wb", buffering=0) as file:
            while not self._ended.wait(_DISK_PAUSE_SECONDS):
                began = time.perf_counter()
                file.write(b"\0" * 4096)
                os.fdatasync(file.fileno())
                self._taken.append(time.perf_counter() - began)


class Watcher:
    """Follows server-sent events in a thread, and notes how old each event of the source is when it arrives."""

    def __init__(self, api: Api, path: str) -> None:
        self._api = api
        self._path = path
        self._ages: list[float] = []
        threading.Thread(target=self._follow, name="watcher", daemon=True).start()

    def take(self, count: int) -> list[float]:
        """Wait for so many, and return their ages in seconds."""
        wait_until(lambda: len(self._ages) >= count, f"{count} events to be seen", _SEEN_SECONDS)
        taken, self._ages = self._ages, []
        return taken

    def _follow(self) -> None:
        # The relay's end ends the stream; whoever still waits gets a TimeoutError.
        with suppress(httpx.HTTPError), self._api.stream("GET", f"{self._path}/events", timeout=None) as answer:
            for line in answer.iter_lines():
                now = time.time()
                if line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: ")).get("event", {})
                    if str(event.get("key", "")).startswith(KEY):
                        self._ages.append(now - event["at"])


class Source:
    """The agent's process, and what asks it for jobs."""

    def __init__(self, tenant: Tenant, process: subprocess.Popen[str], watcher: Watcher) -> None:
        self._tenant = tenant
        self._process = process
        self._watcher = watcher

    def job(self, bundle: Bundle, count: int, rate: str, *, bulk: bool = False) -> dict[str, Any]:
        """Run one job. Returns: What the source says, with the ages of the events when they were seen."""
        self._say(f"{count} {rate} {int(bulk)}")
        self._hear()
        made = deploy(self._tenant.deployer, self._tenant.environment, bundle)
        told: dict[str, Any] = json.loads(self._hear())
        told["seen"] = self._watcher.take(count)
        shown = f"{self._tenant.path}/deployments/{made['id']}"
        wait_until(lambda: self._tenant.viewer.ask("GET", shown)["finished_at"], "the job to end", _SEEN_SECONDS)
        return told

    def enrol(self, tenant: Tenant) -> None:
        """Give the agent its token, and wait until it is connected."""
        self._say(tenant.enrolment_token)
        connected = f"{tenant.path}/clusters/harbour"
        wait_until(lambda: tenant.admin.ask("GET", connected)["state"] == "connected", "the agent to connect", 30)

    def _say(self, line: str) -> None:
        if self._process.stdin is None:
            raise ChildProcessError("the source was started without its pipes")
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        answer = "" if self._process.stdout is None else self._process.stdout.readline()
        if not answer:
            raise ChildProcessError("the source of events ended")
        return answer


def measure(workplace: Workplace) -> list[Figure]:
    """Run a job at the promised pace, alone and beside bulk, one as fast as it goes, and one serially."""
    relay = workplace.relay({"FAIRLEAD_RELAY_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS)})
    tenant = make_tenant(relay, "acme")
    argv = [sys.executable, "-m", "tests.bench.event_source", relay.agent_url]
    folder = workplace.folder("agent")
    small, large = config_maps(), config_maps(12, size_bytes=BUNDLE_BYTES // 12)
    for bundle in (small, large):
        upload(tenant.deployer, "acme", bundle)
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [*argv, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            source = Source(tenant, process, Watcher(relay.client(relay.token("viewer", "acme")), tenant.path))
            source.enrol(tenant)
            source.job(small, RATE, "0")
            with Disk(folder / "alone") as disk:
                alone = source.job(small, RATE * SECONDS, str(RATE))
            alone["disk"] = str(disk)
            with Disk(folder / "beside") as disk:
                beside = source.job(large, RATE * SECONDS, str(RATE), bulk=True)
            beside["disk"] = str(disk)
            burst = source.job(small, BURST, "0")
            serial = source.job(small, SERIAL, "serial")
        finally:
            process.kill()
            relay.close()
    return _figures(alone, beside, burst, serial)


def _figures(alone: Any, beside: Any, burst: Any, serial: Any) -> list[Figure]:  # noqa: ANN401  (JSON)
    pace = f"{RATE}/s"
    events = f"{RATE * SECONDS:,} events"
    serially = "the same, one event after the other's acknowledgement"
    figures = [
        Figure(
            name="events of one agent, as fast as they go", value=BURST / burst["seconds"], unit="events/s",
            samples=f"{BURST:,} events", peer=Peer(name=serially, value=SERIAL / serial["seconds"]),
            target=f"≥ {RATE} events/s", is_met=BURST / burst["seconds"] >= RATE,
            note="appended to the journal, framed, sent by mTLS, committed, acknowledged",
        )
    ]  # fmt: skip
    for told, beside_what, peer in ((alone, "", serial), (beside, " beside bulk", alone)):
        peer_name = "serially, each at its own time" if told is alone else "without bulk"
        for share, key in ((0.5, "p50"), (0.99, "p99")):
            value = told[key] * 1000
            figures.append(
                Figure(
                    name=f"event appended → acknowledged at {pace}{beside_what}, P{share * 100:.0f}", value=value,
                    unit="ms", samples=f"{events}; longest {told['longest'] * 1000:.0f}",
                    peer=Peer(name=peer_name, value=peer[key] * 1000),
                    target=f"< {TARGET_MS} ms" if key == "p99" else "",
                    is_met=value < TARGET_MS if key == "p99" else None,
                    note=told["disk"] if key == "p99" else "",
                )
            )  # fmt: skip
        seen = percentile(told["seen"], 0.99) * 1000
        figures.append(
            Figure(
                name=f"event appended → seen by a follower at {pace}{beside_what}, P99", value=seen, unit="ms",
                samples=f"{events}; longest {max(told['seen']) * 1000:.0f}",
                peer=Peer(name=peer_name, value=percentile(peer["seen"], 0.99) * 1000),
                target=f"< {TARGET_MS} ms", is_met=seen < TARGET_MS,
            )
        )  # fmt: skip
    figures.append(
        Figure(
            name="heartbeat answered beside bulk, P99", value=beside["beat_p99"] * 1000, unit="ms",
            samples=f"{beside['beats']} heartbeats",
            peer=Peer(name="without bulk", value=alone["beat_p99"] * 1000),
            note=f"{beside['bulk_bytes'] / MIB:,.0f} MiB came over the same connection meanwhile, "
            f"{beside['bulk_bytes'] / MIB / beside['seconds']:.0f} MiB/s",
        )
    )  # fmt: skip
    return figures
