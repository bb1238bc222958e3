"""
How soon a job reaches its agent when 1,000 are connected: from the request to the API until the agent has the offer.

The relay is the installed command, the agents are real sessions over mutual TLS in two other processes, each of which
takes what it is offered and reports success. Jobs are asked for at a steady rate, whether or not the ones before are
done, each for an agent chosen at random. All of it shares two cores, so the figures hold the load's own waiting, too.
The peer is a message sent back by the library's plain server with as many connections, and nothing behind it.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from typing import TYPE_CHECKING, Final

import aiohttp
import uvloop

from fairlead_relay.bus import LocalBus
from fairlead_relay.store import Store
from fairlead_relay.store.applications import Environment, create_application, create_environment
from tests.bench.connections import PROCESSES, Load, plain_server, running_load
from tests.bench.figures import Figure, Peer, percentile
from tests.bench.identities import ORGANIZATION, mint
from tests.bench.processes import cpu_seconds_of
from tests.polling import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

    from tests.bench.workplace import Workplace
    from tests.integration.relay_process import RelayProcess

AGENTS: Final = 1_000
RATE: Final = 50
"""Jobs a second: each agent gets one every ten seconds, which is more than a busy team deploys in an hour."""
WARM_UP: Final = 100
JOBS: Final = 2_000
"""Half a minute; thirty are beyond P99."""
ECHOES: Final = 1_000
CLIENTS: Final = 16
TARGET_MS: Final = 100
_ENDS_SECONDS: Final = 60.0
_BARE: Final = f"echo of a plain websockets server on uvloop with {AGENTS:,} connections"


def measure(workplace: Workplace) -> list[Figure]:
    """Connect the agents, ask for jobs, and put what both ends noted together."""
    relay = workplace.relay()
    relay.stop()
    files = [workplace.directory / f"offered-{number}" for number in range(PROCESSES)]
    mint(relay.data_dir, AGENTS, files)
    asyncio.run(_make_environments(relay.data_dir))
    relay.start()
    token = relay.token("deployer", ORGANIZATION)
    with running_load() as load:
        for part, file in zip(load.parts, files, strict=True):
            part.tell("load", str(file))
        load.tell("connect", relay.agent_url, AGENTS)
        if relay.process is None:
            raise ChildProcessError("the relay did not start again")
        uvloop.run(_ask(relay, token, WARM_UP))
        _wait_for(load, WARM_UP)
        cpu_before, began = cpu_seconds_of(relay.process.pid), time.perf_counter()
        asked = uvloop.run(_ask(relay, token, JOBS))
        busy = (cpu_seconds_of(relay.process.pid) - cpu_before) / (time.perf_counter() - began)
        offered = _wait_for(load, JOBS)
        load.leave()
        relay.close()
        with plain_server(relay.data_dir, "uvloop") as (_, port):
            load.tell("open", f"wss://localhost:{port}", AGENTS)
            echo = load.parts[0].tell("echo", str(ECHOES))
            load.leave()
    whole = [(offered[job] - sent) * 1000 for job, (sent, _) in asked.items()]
    after = [(offered[job] - answered) * 1000 for job, (_, answered) in asked.items()]
    answers = [(answered - sent) * 1000 for sent, answered in asked.values()]
    samples = f"{JOBS:,} jobs, {RATE} a second, {AGENTS:,} agents; longest {max(whole):.1f}"
    p99 = percentile(whole, 0.99)
    return [
        Figure(
            name="request sent → offer at the agent, P50", value=percentile(whole, 0.5), unit="ms", samples=samples,
            peer=Peer(name=_BARE, value=echo["p50"] * 1000),
            note="from the client's request over its durable enqueue, the lease and its commit to the agent's session",
        ),
        Figure(
            name="request sent → offer at the agent, P99", value=p99, unit="ms", samples=samples,
            peer=Peer(name=_BARE, value=echo["p99"] * 1000), target=f"≤ {TARGET_MS} ms", is_met=p99 <= TARGET_MS,
        ),
        Figure(
            name="request sent → 202 answered, P99", value=percentile(answers, 0.99), unit="ms", samples=samples,
            peer=Peer(name=_BARE, value=echo["p99"] * 1000), note=f"P50 {percentile(answers, 0.5):.1f} ms",
        ),
        Figure(
            name="202 answered, so committed → offer at the agent, P99", value=percentile(after, 0.99), unit="ms",
            samples=samples, peer=Peer(name=_BARE, value=echo["p99"] * 1000),
            note=f"P50 {percentile(after, 0.5):.1f} ms; below 0 where the agent had it before the client its answer",
        ),
        Figure(
            name="CPU of the relay meanwhile", value=100 * busy, unit="% of a core", samples=samples,
            note="requests, commits, offers, acceptances, results, and a heartbeat of each agent every 10 s",
        ),
    ]  # fmt: skip


async def _make_environments(data_dir: Path) -> None:
    """Make an environment on each cluster of a relay that is stopped: by the API it takes longer than the measuring."""
    store = Store(f"sqlite:///{data_dir / 'relay.db'}", LocalBus().publish)
    await store.start()

    def write(connection: Connection) -> None:
        now = time.time()
        create_application(connection, ORGANIZATION, "shop", now)
        for number in range(AGENTS):
            made = Environment(ORGANIZATION, "shop", f"env-{number}", "staging", f"cluster-{number}", "shop", now)
            create_environment(connection, made)

    try:
        await store.write(write)
    finally:
        await store.stop()


async def _ask(relay: RelayProcess, token: str, count: int) -> dict[str, tuple[float, float]]:
    """
    Ask for jobs at RATE.

    Returns: Job id → when its request was sent and when it was answered, on the clock of perf_counter.
    """
    dice = random.Random(1)
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(relay.ca_file)), limit=CLIENTS)
    headers = {"Authorization": f"Bearer {token}"}
    asked: dict[str, tuple[float, float]] = {}
    async with aiohttp.ClientSession(relay.api_url, connector=connector, headers=headers) as session:

        async def ask(number: int) -> None:
            path = f"/v1/organizations/{ORGANIZATION}/applications/shop/environments/env-{number}/health-checks"
            sent = time.perf_counter()
            async with session.post(path, json={}) as answer:
                body = await answer.json()
                answer.raise_for_status()
            asked[body["id"]] = (sent, time.perf_counter())

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for turn in range(count):
                # The rate itself: nothing is waited for.
                await asyncio.sleep(max(0.0, began + turn / RATE - time.perf_counter()))
                group.create_task(ask(dice.randrange(AGENTS)))
    return asked


def _wait_for(load: Load, count: int) -> dict[str, float]:
    """Gather what the agents noted, once they have so many offers. Returns: Job id → when its offer arrived."""
    found: dict[str, float] = {}

    def is_complete() -> bool:
        for part in load.parts:
            found.update(part.tell("offers"))
        return len(found) >= count

    wait_until(is_complete, f"{count} offers", _ENDS_SECONDS)
    return found
