"""Each test of this folder runs on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from fairlead_relay.bus import LocalBus
from fairlead_relay.store import Store
from fairlead_relay.store.engines import parse_url, writer_engine
from fairlead_relay.store.migrate import migrate
from tests.conformance.domain import seed
from tests.conformance.postgresql import PostgresqlServer, running_postgresql

MakeStore = Callable[[LocalBus], Awaitable[Store]]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """One server for the whole run."""
    with running_postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which database the test runs on."""
    return str(request.param)


@pytest.fixture(scope="session")
def templates() -> dict[str, Path | str]:
    """Migrated databases to copy: migrating anew for each test would take longer than the tests."""
    return {}


@pytest.fixture
def database_url(
    kind: str,
    request: pytest.FixtureRequest,
    templates: dict[str, Path | str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """A database with the schema and no rows."""
    if kind == "sqlite":
        if kind not in templates:
            templates[kind] = tmp_path_factory.mktemp("template") / "relay.db"
            _migrate(f"sqlite:///{templates[kind]}")
        shutil.copy(templates[kind], tmp_path / "relay.db")
        yield f"sqlite:///{tmp_path}/relay.db"
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    if kind not in templates:
        templates[kind] = server.make_database()
        _migrate(str(templates[kind]))
    url = server.make_database(template=str(templates[kind]))
    yield url
    server.drop_database(url)


def _migrate(url: str) -> None:
    engine = writer_engine(parse_url(url))
    with engine.begin() as connection:
        migrate(connection)
    engine.dispose()


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
