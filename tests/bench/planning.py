"""
How late the relay's loop is while a bundle of 16 MiB is uploaded, checked and planned.

Seen from outside: a client asks `/healthz`, which needs nothing but the loop, again and again over one connection. The
bundles come from processes of their own, one after the other, with everything a real client sends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from tests.bench.figures import Figure, Peer, percentile
from tests.integration.conftest import make_tenant

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.workplace import Workplace
    from tests.integration.relay_process import Api

BUNDLES: Final = 5
IDLE_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.002
TARGET_MS: Final = 50
_ENDS_SECONDS: Final = 120.0


def measure(workplace: Workplace) -> list[Figure]:
    """Ask on an idle relay, then beside five bundles."""
    relay = workplace.relay()
    tenant = make_tenant(relay, "acme")
    facts = {
        "api_url": relay.api_url,
        "ca_file": str(relay.ca_file),
        "token": tenant.deployer.headers["Authorization"].removeprefix("Bearer "),
        "organization": tenant.organization,
        "environment": tenant.environment,
    }
    api = relay.client()
    ends = time.monotonic() + IDLE_SECONDS
    idle = _ask_until(api, lambda: time.monotonic() > ends)
    busy: list[float] = []
    taken: list[float] = []
    size = 0
    for _ in range(BUNDLES):
        size, answers, seconds = _beside_one(api, json.dumps(facts))
        busy += answers
        taken.append(seconds)
    relay.close()
    mib = f"{size / (1 << 20):.1f} MiB"
    note = f"from the first byte sent to the deployment's 202 it took {min(taken):.1f}-{max(taken):.1f} s"
    return [
        _figure(f"`/healthz` answered while a bundle of {mib} is planned, P50", busy, idle, 0.50),
        _figure(f"`/healthz` answered while a bundle of {mib} is planned, P99", busy, idle, 0.99, note),
        _figure(f"`/healthz` answered while a bundle of {mib} is planned, longest", busy, idle, 1.0),
    ]


def _beside_one(api: Api, facts: str) -> tuple[int, list[float], float]:
    """Ask while another process deploys a bundle. Returns: Its bytes, how long answers took in ms, its seconds."""
    command = [sys.executable, "-m", "tests.bench.large_bundle"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sender:
        try:
            assert sender.stdin is not None
            assert sender.stdout is not None
            sender.stdin.write(f"{facts}\n")
            sender.stdin.flush()
            size = int(sender.stdout.readline().split()[1])
            sender.stdin.write("go\n")
            sender.stdin.close()
            ends = time.monotonic() + _ENDS_SECONDS
            answers = _ask_until(api, lambda: sender.poll() is not None or time.monotonic() > ends)
            return size, answers, float(sender.stdout.readline())
        finally:
            sender.kill()


def _ask_until(api: Api, is_over: Callable[[], bool]) -> list[float]:
    """Ask again and again. Returns: How long each answer took, in ms."""
    took = []
    while not is_over():
        began = time.perf_counter()
        api.get("/healthz").raise_for_status()
        took.append((time.perf_counter() - began) * 1000)
        time.sleep(PAUSE_SECONDS)
    return took


def _figure(name: str, busy: list[float], idle: list[float], share: float, note: str = "") -> Figure:
    value = percentile(busy, share)
    promised = share == 0.99
    return Figure(
        name=name,
        value=value,
        unit="ms",
        samples=f"{len(busy):,} requests beside {BUNDLES} bundles of 5,000 objects",
        peer=Peer(name="the same on the idle relay", value=percentile(idle, share)),
        target=f"< {TARGET_MS} ms" if promised else "",
        is_met=value < TARGET_MS if promised else None,
        note=note,
    )
