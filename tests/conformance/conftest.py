"""Each test of this folder runs on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from fairlead_relay.bus import LocalBus
from fairlead_relay.store import Store
from tests.conformance.domain import seed
from tests.conformance.postgresql import PostgresqlServer, running_postgresql

MakeStore = Callable[[LocalBus], Awaitable[Store]]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """One server for the whole run."""
    with running_postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/relay.db"
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return server.make_database()


@pytest.fixture
async def make_store(database_url: str) -> AsyncIterator[MakeStore]:
    """Start a store on the test's database; each call stands for one more relay that shares it."""
    stores: list[Store] = []

    async def make(bus: LocalBus) -> Store:
        store = Store(database_url, bus.publish)
        stores.append(store)
        await store.start()
        return store

    yield make
    for store in stores:
        await store.stop()


@pytest.fixture
def bus() -> LocalBus:
    """The bus of the first relay."""
    return LocalBus()


@pytest.fixture
async def store(make_store: MakeStore, bus: LocalBus) -> Store:
    """A store that holds one organization with one cluster, its agent and one environment."""
    started = await make_store(bus)
    await started.write(seed)
    return started
