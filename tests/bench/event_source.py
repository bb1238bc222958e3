"""
An agent whose one job reports events at a given pace: journal, runner, link, frames and TLS are the product's.

`python -m tests.bench.event_source URL DIRECTORY`, with the enrolment token in the first line of standard input. Then,
one line for each job that will follow, `COUNT RATE BULK`, answered with a line once it is understood:

    COUNT   events of the next job
    RATE    a second, whatever becomes of them; 0: at once; serial: each after the acknowledgement of the one before
    BULK    1: fetch the job's bundle over the same connection, again and again, until the last acknowledgement

When its events are acknowledged, a line of JSON says how long they took, in seconds from append to acknowledgement.
Each carries the time it was appended, for whoever follows the relay's stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast
from unittest.mock import patch

import structlog
import uvloop

from fairlead_agent import connection as connection_module
from fairlead_agent import link as link_module
from fairlead_agent.connection import GATHER_SECONDS, Connection
from fairlead_agent.journal import Journal
from fairlead_agent.ports import CheckpointPort, DeployResult, DeployWork, Report
from fairlead_shared.frames import HeartbeatAck, Message
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import Action, ObjectEvent, Outcome, ProgressEvent
from tests.bench.agent_without_cluster import Address
from tests.bench.figures import percentile
from tests.integration.agent_state import MemoryEngine
from tests.integration.agent_under_test import AgentUnderTest

if TYPE_CHECKING:
    from collections.abc import Callable

    from fairlead_agent.link import Link
    from tests.integration.scripted_relay import ScriptedRelay

KEY = "bench/"
"""How the keys of these events begin."""
_EVENT_OF = ObjectRef(api_version="v1", kind="ConfigMap", namespace="shop", name="settings-0")


@dataclass
class Times:
    """What was measured since it was reset."""

    appended: dict[int, float] = field(default_factory=dict)
    """Event number → when, for those not acknowledged yet."""
    taken: list[float] = field(default_factory=list)
    beats: list[float] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self) -> None:
        """Forget everything."""
        self.appended.clear()
        self.taken.clear()
        self.beats.clear()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds that an acknowledgement brings about."""
        while not holds():
            self.changed.clear()
            await self.changed.wait()


TIMES = Times()


_append, _acknowledge = Journal.append, Journal.acknowledge


def _timed_append(journal: Journal, event: ProgressEvent) -> bool:
    is_new = _append(journal, event)
    if is_new and event.key.startswith(KEY):
        TIMES.appended[journal.last_seq] = time.perf_counter()
    return is_new


def _timed_acknowledge(journal: Journal, seq: int) -> None:
    now = time.perf_counter()
    for number in range(journal.acknowledged_seq + 1, seq + 1):
        if (began := TIMES.appended.pop(number, None)) is not None:
            TIMES.taken.append(now - began)
    _acknowledge(journal, seq)
    TIMES.changed.set()


class TimedConnection(Connection):
    """Notes how long heartbeats take."""

    _beaten_at = 0.0

    def _send_heartbeat(self) -> None:
        super()._send_heartbeat()
        self._beaten_at = time.perf_counter()

    def _take_message(self, message: Message) -> None:
        super()._take_message(message)
        if isinstance(message, HeartbeatAck):
            TIMES.beats.append(time.perf_counter() - self._beaten_at)


class CountingSink:
    """Takes a bundle's bytes and forgets them."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, payload: bytes) -> None:
        """Count."""
        self.size += len(payload)


class PacedEngine(MemoryEngine):
    """Reports events instead of applying anything."""

    link: Link | None = None
    count = 0
    rate = ""
    bulk = False

    async def run(self, work: DeployWork, report: Report, checkpoint: CheckpointPort) -> DeployResult:
        """Report, and say how long it took."""
        TIMES.reset()
        # Events that wait for the one before have none to go with.
        connection_module.GATHER_SECONDS = 0.0 if self.rate == "serial" else GATHER_SECONDS
        fetched: list[CountingSink] = []
        fetching = asyncio.create_task(self._fetch_again_and_again(work.bundle.sha256, fetched))
        began = time.perf_counter()
        for number in range(self.count):
            await self._wait_for_turn(number, began)
            key = f"{KEY}{number}"
            await report(ObjectEvent(key=key, at=time.time(), object=_EVENT_OF, action=Action.CHANGED))
        await TIMES.until(lambda: len(TIMES.taken) >= self.count)
        seconds = time.perf_counter() - began
        fetching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await fetching
        told = {
            "seconds": seconds,
            "p50": percentile(TIMES.taken, 0.5),
            "p99": percentile(TIMES.taken, 0.99),
            "longest": max(TIMES.taken),
            "beats": len(TIMES.beats),
            "beat_p99": percentile(TIMES.beats, 0.99) if TIMES.beats else 0.0,
            "bulk_bytes": sum(sink.size for sink in fetched),
        }
        print(json.dumps(told), flush=True)
        return DeployResult(Outcome.SUCCEEDED)

    async def _wait_for_turn(self, number: int, began: float) -> None:
        if self.rate == "serial":
            await TIMES.until(lambda: len(TIMES.taken) >= number)
        elif float(self.rate) > 0:
            await asyncio.sleep(max(0.0, began + number / float(self.rate) - time.perf_counter()))

    async def _fetch_again_and_again(self, sha256: str, fetched: list[CountingSink]) -> None:
        while self.bulk and self.link is not None:
            fetched.append(CountingSink())
            await self.link.fetch(sha256, fetched[-1])


async def run(url: str, directory: Path) -> None:
    """Run the agent, and obey standard input, until it is killed."""
    token = (await asyncio.to_thread(sys.stdin.readline)).strip()
    agent = AgentUnderTest(cast("ScriptedRelay", Address(url, token)), directory)
    engine = agent.engine = PacedEngine()
    await agent.start()
    engine.link = agent.link
    while line := await asyncio.to_thread(sys.stdin.readline):
        count, engine.rate, bulk = line.split()
        engine.count, engine.bulk = int(count), bulk == "1"
        print("understood", flush=True)


def main() -> None:
    """Put the measuring parts in the places of those they extend."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is for answers
    with (
        patch.object(link_module, "Connection", TimedConnection),
        patch.object(Journal, "append", _timed_append),
        patch.object(Journal, "acknowledge", _timed_acknowledge),
    ):
        uvloop.run(run(sys.argv[1], Path(sys.argv[2])))


if __name__ == "__main__":
    main()
