"""A deployment runs through many broken connections: what the relay stores is what the agent recorded, to the byte."""

import asyncio
import itertools
import json
from itertools import product
from typing import Any, cast

import pytest
from pydantic import TypeAdapter

from fairlead_agent.journal import Journal
from fairlead_agent.link import Link
from fairlead_agent.ports import CheckpointPort, DeployResult, DeployWork, Report
from fairlead_agent.transport_choice import Transport
from fairlead_shared.bundle import Bundle
from fairlead_shared.progress import ProgressEvent
from tests.fault.conftest import Line
from tests.fault.faulty_proxy import FaultyProxy, loud_script
from tests.fault.scale import FULL, scaled
from tests.integration.agent_state import MemoryEngine
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.relay_process import RelayProcess
from tests.polling import eventually

SEED = 20_261
DISCONNECTS = scaled(60, 1000)
OBJECTS_PER_DISCONNECT = 5
INNER_TLS = "inner TLS"
CASES = list(product(Transport, ["frames", INNER_TLS]))
EVENT: TypeAdapter[ProgressEvent] = TypeAdapter(ProgressEvent)


class PacedEngine(MemoryEngine):
    """Reports so many objects for each connection that breaks: there is always something on its way."""

    proxy: FaultyProxy | None = None
    goal = 0

    async def run(self, work: DeployWork, report: Report, checkpoint: CheckpointPort) -> DeployResult:
        """Run, pausing before an object until enough connections broke."""
        done = 0

        async def paced(event: ProgressEvent) -> None:
            nonlocal done
            done += 1
            proxy = self.proxy

            async def broken() -> bool:
                return proxy is None or min(proxy.broken, self.goal) >= done // OBJECTS_PER_DISCONNECT

            if done // OBJECTS_PER_DISCONNECT <= self.goal:
                await eventually(broken, f"disconnect {done // OBJECTS_PER_DISCONNECT} of {self.goal}")
            await report(event)

        return await super().run(work, paced, checkpoint)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[bytes]]:
    """Keep what the agent's journals record, by job, in order."""
    found: dict[str, list[bytes]] = {}
    append = Journal.append

    def kept(self: Journal, event: ProgressEvent) -> bool:
        is_new = append(self, event)
        if is_new:
            found.setdefault(self._path.stem, []).append(EVENT.dump_json(event, exclude_none=True))
        return is_new

    monkeypatch.setattr(Journal, "append", kept)
    return found


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect twenty times as soon: the waits themselves are tested elsewhere."""
    wait = Link._wait_seconds
    monkeypatch.setattr(Link, "_wait_seconds", lambda self, failures: wait(self, failures) / 20)


async def run(line: Line, bundle: Bundle) -> tuple[str, list[bytes]]:
    """Deploy, wait for the end, and return the job with the events the relay stored."""
    made = await asyncio.to_thread(deploy, line.tenant.deployer, line.tenant.environment, bundle)
    path = f"{line.tenant.path}/deployments/{made['id']}"

    async def ended() -> dict[str, Any] | None:
        shown = cast("dict[str, Any]", await line.tenant.ask("GET", path))
        return shown if shown["finished_at"] else None

    shown = await eventually(ended, "the deployment to end", 500 if not FULL else 1700)
    assert shown is not None
    assert (shown["state"], shown["job"]["attempt"]) == ("succeeded", 1), shown
    answer = await asyncio.to_thread(
        line.tenant.viewer.get, f"{path}/events?follow=false", headers={"Accept": "application/x-ndjson"}
    )
    events = [json.loads(row)["event"] for row in answer.text.splitlines()]
    reported = [event for event in events if "key" in event]
    return shown["job"]["id"], [EVENT.dump_json(EVENT.validate_python(event), exclude_none=True) for event in reported]


def timeless(events: list[bytes]) -> list[dict[str, Any]]:
    """Return events without their times."""
    return [{name: value for name, value in json.loads(event).items() if name != "at"} for event in events]


@pytest.mark.timeout(1800 if FULL else 600)
@pytest.mark.parametrize(("transport", "layer"), CASES)
async def test_nothing_is_lost_or_doubled_through_many_disconnects(
    line: Line, recorded: dict[str, list[bytes]], own_relay: RelayProcess, transport: Transport, layer: str
) -> None:
    """The stored events are those recorded, in order, and equal to an undisturbed run's apart from times."""
    engine = line.agent.engine = PacedEngine()
    line.agent.only = transport
    if layer == INNER_TLS:
        # As in a network that inspects TLS: frames then travel inside a TLS of their own.
        line.agent.inspected_by = own_relay.ca_file
    bundle = config_maps(DISCONNECTS * OBJECTS_PER_DISCONNECT + 20)
    await asyncio.to_thread(upload, line.tenant.deployer, line.tenant.organization, bundle)
    await line.agent.start()
    calm_job, calm = await run(line, bundle)
    assert calm == recorded[calm_job]

    engine.proxy, engine.goal = line.proxy, DISCONNECTS
    script = loud_script(SEED, DISCONNECTS * 10)
    line.proxy.follow(itertools.takewhile(lambda _: line.proxy.broken < DISCONNECTS, script))
    line.proxy.break_now()
    job, stored = await run(line, bundle)
    assert line.proxy.broken >= DISCONNECTS
    assert stored == recorded[job]
    assert len(stored) == len(set(stored))
    assert timeless(stored) == timeless(calm)
    assert len(engine.writes) == len(set(engine.writes)) == 2 * len(list(bundle.objects()))
