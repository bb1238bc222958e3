"""
Durable enqueue on SQLite and PostgreSQL: jobs a second, each acknowledged only after its commit is on the disk.

At the dispatcher's store (no HTTP), the peer is Python's own sqlite3 running the very statements that one enqueue runs,
captured from it, on the same schema and with the same pragmas: what is left over is the price of the layers above.
PostgreSQL runs on this machine, over a Unix socket, with its syncs on, and takes its own part of the two cores.
Through the API, the peer is the cheapest request the same relay answers.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import sqlite3
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import event

from fairlead_cli.deployment_ids import new_deployment_id
from fairlead_relay.bus import LocalBus
from fairlead_relay.planning.deployments import DeploymentRequest, Place, Planner
from fairlead_relay.store import Store
from fairlead_relay.store.applications import Environment, create_application, create_environment
from fairlead_relay.store.audit import Actor, Trail
from fairlead_relay.store.bundles import Bundle, add_bundle, find_bundle
from fairlead_relay.store.clusters import create_cluster
from fairlead_relay.store.organizations import ensure_organization
from tests.bench.figures import Figure, Peer, median, percentile, spread
from tests.conformance.postgresql import running_postgresql
from tests.integration.conftest import make_tenant

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from tests.bench.workplace import Workplace

ROUNDS: Final = 5
JOBS: Final = 2_000
"""In each round: a second or two."""
AT_ONCE: Final = 256
"""As many as one group commit takes, see fairlead_relay/store/writer.py."""
ONE_BY_ONE: Final = 200
REQUESTS: Final = 1_000
CLIENTS: Final = 64
_TARGET: Final = 1_000
_PLACES: Final = tuple(Place("acme", "shop", f"env-{number}") for number in range(100))
"""Jobs go to each in turn: nobody queues thousands of deployments of one environment."""
_BUNDLE: Final = "b" * 64


@dataclass(frozen=True)
class Statement:
    """One SQL statement of an enqueue, with the job's id among its parameters."""

    sql: str
    parameters: tuple[Any, ...]


@dataclass
class _Rates:
    """What the rounds gave, a value each."""

    jobs: list[float] = field(default_factory=list)
    """A second."""
    deployments: list[float] = field(default_factory=list)
    """A second."""
    single: list[float] = field(default_factory=list)
    """A second, with one caller."""
    single_seconds: list[float] = field(default_factory=list)
    """Of each call of all rounds."""
    cpu: dict[str, list[float]] = field(default_factory=dict)
    """Milliseconds of CPU for each job, all threads of the process: what others on the machine hardly disturb."""

    async def of_calls(self, name: str, call: Callable[[], Awaitable[object]]) -> float:
        """Return calls a second, and note their CPU time under a name."""
        used = time.process_time()
        rate = await _rate(call, JOBS, AT_ONCE)
        self.cpu.setdefault(name, []).append((time.process_time() - used) * 1000 / JOBS)
        return rate


def measure(workplace: Workplace) -> list[Figure]:
    """Measure the store and its peer in turn, round after round; then the API."""
    rates = _Rates()
    peer_grouped: list[float] = []
    peer_single: list[float] = []
    on_postgresql = _Rates()
    with running_postgresql(syncs=True) as server:
        for _ in range(ROUNDS):
            uvloop.run(_measure_store(server.make_database(), on_postgresql))
    for _ in range(ROUNDS):
        statements = uvloop.run(_measure_store(_sqlite_url(workplace.folder("store")), rates))
        peer_folder = workplace.folder("sqlite3")
        uvloop.run(_make_store(_sqlite_url(peer_folder)))
        peer_grouped.append(_replay(peer_folder, statements, JOBS, AT_ONCE))
        peer_single.append(_replay(peer_folder, statements, ONE_BY_ONE, 1))
    cpu = {name: f"{median(used):.2f} ms of CPU for each" for name, used in rates.cpu.items()}
    sync = _sync_milliseconds(workplace.folder("sync"))
    jobs = median(rates.jobs)
    return [
        Figure(
            name=f"jobs, {AT_ONCE} callers at once", value=jobs, unit="jobs/s", samples=spread(rates.jobs, 0),
            peer=Peer(name=f"sqlite3, same statements, {AT_ONCE} per commit", value=median(peer_grouped)),
            target=f"≥ {_TARGET:,} jobs/s", is_met=jobs >= _TARGET,
            note=f"{cpu['jobs']}; one write of 4 KiB with fdatasync took {sync:.2f} ms (P50) here",
        ),
        Figure(
            name=f"deployments with signed statements, {AT_ONCE} callers at once", value=median(rates.deployments),
            unit="jobs/s", samples=spread(rates.deployments, 0),
            peer=Peer(name="plain jobs above", value=jobs), note=cpu["deployments"],
        ),
        Figure(
            name="jobs, one caller", value=median(rates.single), unit="jobs/s", samples=spread(rates.single, 0),
            peer=Peer(name="sqlite3, same statements, 1 per commit", value=median(peer_single)),
            note=f"P99 of one enqueue: {percentile(rates.single_seconds, 0.99) * 1000:.1f} ms",
        ),
        *_on_postgresql(on_postgresql, rates),
        *_measure_api(workplace),
    ]  # fmt: skip


def _on_postgresql(rates: _Rates, on_sqlite: _Rates) -> list[Figure]:
    jobs, deployments, single = median(rates.jobs), median(rates.deployments), median(rates.single)
    cpu = {name: f"{median(used):.2f} ms of CPU for each, without the server's" for name, used in rates.cpu.items()}
    return [
        Figure(
            name=f"jobs, {AT_ONCE} callers at once, PostgreSQL", value=jobs, unit="jobs/s",
            samples=spread(rates.jobs, 0), peer=Peer(name="the same on SQLite", value=median(on_sqlite.jobs)),
            target=f"≥ {_TARGET:,} jobs/s", is_met=jobs >= _TARGET, note=cpu["jobs"],
        ),
        Figure(
            name=f"deployments with signed statements, {AT_ONCE} callers at once, PostgreSQL", value=deployments,
            unit="jobs/s", samples=spread(rates.deployments, 0),
            peer=Peer(name="the same on SQLite", value=median(on_sqlite.deployments)), note=cpu["deployments"],
        ),
        Figure(
            name="jobs, one caller, PostgreSQL", value=single, unit="jobs/s", samples=spread(rates.single, 0),
            peer=Peer(name="the same on SQLite", value=median(on_sqlite.single)),
            note=f"P99 of one enqueue: {percentile(rates.single_seconds, 0.99) * 1000:.1f} ms",
        ),
    ]  # fmt: skip


def _sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'relay.db'}"


async def _make_store(url: str) -> None:
    """Make a store that has an environment and a bundle, and close it."""
    store = await _started(url)
    await store.stop()


async def _started(url: str) -> Store:
    store = Store(url, LocalBus().publish)
    await store.start()
    now = time.time()

    def fill(connection: Connection) -> None:
        organization, application = _PLACES[0].organization, _PLACES[0].application
        ensure_organization(connection, organization, now)
        create_cluster(connection, organization, "blue", now)
        create_application(connection, organization, application, now)
        for place in _PLACES:
            names = (organization, application, place.environment)
            create_environment(connection, Environment(*names, "staging", "blue", "shop", now))
        add_bundle(connection, Bundle(organization, _BUNDLE, 1000, now))

    await store.write(fill)
    return store


async def _measure_store(url: str, rates: _Rates) -> list[Statement]:
    """Measure one round on a fresh store, and return the statements of one enqueue."""
    store = await _started(url)

    async def namespaces_of(organization: str, sha256: str) -> tuple[str, ...]:
        # As the library does it for a bundle that was uploaded a moment ago.
        await store.read(lambda connection: find_bundle(connection, organization, sha256))
        return ("shop",)

    planner = Planner(store, Ed25519PrivateKey.generate(), time.time, namespaces_of)
    places = itertools.cycle(_PLACES)
    trail = Trail(_PLACES[0].organization, Actor("token", "bench"), "deployment.create", "", time.time())

    async def enqueue() -> None:
        await planner.check_health(next(places), "bench", 3600)

    async def deploy() -> None:
        request = DeploymentRequest(new_deployment_id(), next(places), trail, 60, 3600)
        await planner.deploy(request, _BUNDLE, {})

    try:
        statements = await _statements_of(store, enqueue)
        rates.jobs.append(await rates.of_calls("jobs", enqueue))
        rates.deployments.append(await rates.of_calls("deployments", deploy))
        single = await _seconds_of_each(enqueue, ONE_BY_ONE)
        rates.single.append(ONE_BY_ONE / sum(single))
        rates.single_seconds += single
    finally:
        await store.stop()
    return statements


async def _rate(call: Callable[[], Awaitable[object]], count: int, at_once: int) -> float:
    """Make calls, some at once. Returns: Calls a second."""
    began = time.perf_counter()
    await _seconds_of_each(call, count, at_once)
    return count / (time.perf_counter() - began)


async def _seconds_of_each(call: Callable[[], Awaitable[object]], count: int, at_once: int = 1) -> list[float]:
    taken: list[float] = []
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            began = time.perf_counter()
            await call()
            taken.append(time.perf_counter() - began)

    await asyncio.gather(*(work() for _ in range(at_once)))
    return taken


async def _statements_of(store: Store, enqueue: Callable[[], Awaitable[None]]) -> list[Statement]:
    """Return the SQL that one enqueue runs between its savepoints."""
    found: list[Statement] = []
    engine = store._writer

    def note(_connection: object, _cursor: object, sql: str, parameters: tuple[Any, ...], *_: object) -> None:
        if sql.startswith(("INSERT", "SELECT", "UPDATE")):
            found.append(Statement(sql, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        await enqueue()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return found


def _replay(folder: Path, statements: Sequence[Statement], count: int, per_commit: int) -> float:
    """Run the statements of `count` enqueues on a bare connection. Returns: Enqueues a second."""
    (old_id,) = {value for one in statements for value in one.parameters if isinstance(value, str) and len(value) == 26}
    connection = sqlite3.connect(folder / "relay.db", isolation_level=None)
    try:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "temp_store = MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        began = time.perf_counter()
        for first in range(0, count, per_commit):
            connection.execute("BEGIN IMMEDIATE")
            for _ in range(min(per_commit, count - first)):
                new_id = secrets.token_hex(13)
                for one in statements:
                    parameters = [new_id if value == old_id else value for value in one.parameters]
                    connection.execute(one.sql, parameters).fetchall()
            connection.execute("COMMIT")
        return count / (time.perf_counter() - began)
    finally:
        connection.close()


def _sync_milliseconds(folder: Path) -> float:
    """Measure what the disk itself takes to make a write durable."""
    taken = []
    with (folder / "file").open("wb", buffering=0) as file:
        for _ in range(100):
            began = time.perf_counter()
            file.write(b"\0" * 4096)
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    return median(taken)


def _measure_api(workplace: Workplace) -> list[Figure]:
    """Measure whole requests against a relay in a process of its own, on the same two cores as this load."""
    relay = workplace.relay()
    tenant = make_tenant(relay, "acme")
    token = relay.token("admin", "acme")
    queued, bare = uvloop.run(_request(relay.api_url, str(relay.ca_file), token, f"{tenant.environment}/health-checks"))
    relay.close()
    return [
        Figure(
            name=f"API: POST health-checks answered 202, {CLIENTS} clients", value=median(queued), unit="requests/s",
            samples=spread(queued, 0), peer=Peer(name="GET /v1/version, no store", value=median(bare)),
        )
    ]  # fmt: skip


async def _request(api_url: str, ca_file: str, token: str, path: str) -> tuple[list[float], list[float]]:
    """Return rates of enqueueing requests and of bare ones, in turn."""
    context = ssl.create_default_context(cafile=ca_file)
    connector = aiohttp.TCPConnector(ssl=context, limit=CLIENTS)
    headers = {"Authorization": f"Bearer {token}"}
    queued: list[float] = []
    bare: list[float] = []
    async with aiohttp.ClientSession(api_url, connector=connector, headers=headers) as session:

        async def post() -> None:
            async with session.post(path, json={"deadline_seconds": 3600}) as answer:
                await answer.read()
                answer.raise_for_status()

        async def look() -> None:
            async with session.get("/v1/version") as answer:
                await answer.read()
                answer.raise_for_status()

        await _seconds_of_each(look, CLIENTS, CLIENTS)  # opens the connections
        for _ in range(ROUNDS):
            queued.append(await _rate(post, REQUESTS, CLIENTS))
            bare.append(await _rate(look, REQUESTS, CLIENTS))
    return queued, bare
