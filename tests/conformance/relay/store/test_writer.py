"""What every write and read of the store promises."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
from collections.abc import Sequence

import pytest
from sqlalchemy import Connection, text

from fairlead_relay.bus import LocalBus
from fairlead_relay.errors import Conflict, StoreError, StoreUnavailable
from fairlead_relay.store import Store, engines, writer
from fairlead_relay.store.engines import parse_url, writer_engine
from fairlead_relay.store.events import Scope
from fairlead_relay.store.meta import store_epoch
from fairlead_relay.store.organizations import Organization, ensure_organization, find_organization
from tests.conformance.conftest import MakeStore
from tests.conformance.domain import START, deploy
from tests.polling import PATIENCE_SECONDS


async def test_write_returns_the_result_once_another_relay_can_read_it(make_store: MakeStore, store: Store) -> None:
    """An answer means a commit, not a promise of one."""
    other = await make_store(LocalBus())
    made = await store.write(lambda c: ensure_organization(c, "globex", START))
    assert made == Organization("globex", START)
    assert await other.read(lambda c: find_organization(c, "globex")) == made


async def test_a_failed_write_undoes_only_its_own(store: Store) -> None:
    """Writes that share a commit do not share their failures."""

    def fail(connection: Connection) -> None:
        ensure_organization(connection, "half", START)
        raise Conflict("no")

    answers = await asyncio.gather(
        store.write(lambda c: ensure_organization(c, "before", START)),
        store.write(fail),
        store.write(lambda c: ensure_organization(c, "after", START)),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [Organization, Conflict, Organization]
    stored = await store.read(lambda c: c.scalars(text("SELECT name FROM organizations ORDER BY name")).all())
    assert stored == ["acme", "after", "before"]


async def test_writes_of_a_kind_run_together(store: Store) -> None:
    """Each gets its own result or error, and one commit holds all of them."""
    calls: list[list[str]] = []

    def ensure(connection: Connection, names: Sequence[str]) -> list[Organization | Conflict]:
        calls.append(list(names))
        return [Conflict(name) if name == "taken" else ensure_organization(connection, name, START) for name in names]

    names = [f"o{number}" for number in range(20)] + ["taken"]
    answers = await asyncio.gather(
        *(store.write_together(ensure, name) for name in names[:10]),
        store.write(lambda c: ensure_organization(c, "single", START)),
        *(store.write_together(ensure, name) for name in names[10:]),
        return_exceptions=True,
    )
    assert [getattr(answer, "name", "error") for answer in answers] == [*names[:10], "single", *names[10:20], "error"]
    # The first may be on its way already when the others come.
    assert len(calls) < len(names) / 2
    assert sorted(itertools.chain(*calls)) == sorted(names)


async def test_one_that_spoils_the_writes_beside_it_is_run_alone(store: Store, bus: LocalBus) -> None:
    """The others are stored as if it had not been there, and their notices are told once."""

    def ensure(connection: Connection, names: Sequence[str]) -> list[Organization]:
        deploy(connection)
        if "bad" in names:
            connection.execute(text("SELECT * FROM nothing"))
        return [ensure_organization(connection, name, START) for name in names]

    async def one(name: str) -> Organization:
        return await store.write_together(ensure, name)

    with bus.subscribe(Scope("acme")) as heard:
        answers = await asyncio.gather(*map(one, ("good", "bad", "better")), return_exceptions=True)
        await store.write(deploy)
        positions = [getattr(await asyncio.wait_for(heard.get(), PATIENCE_SECONDS), "position", 0) for _ in range(3)]
    assert [getattr(answer, "name", "error") for answer in answers] == ["good", "error", "better"]
    assert len(set(positions)) == 3
    stored = await store.read(lambda c: c.scalars(text("SELECT count(*) FROM jobs")).one())
    assert stored == 3


async def test_a_refused_statement_does_not_spoil_the_writes_beside_it(store: Store) -> None:
    """A broken statement aborts PostgreSQL's transaction; the savepoint must save the others."""
    answers = await asyncio.gather(
        store.write(lambda c: ensure_organization(c, "before", START)),
        store.write(lambda c: c.execute(text("SELECT * FROM nothing"))),
        store.write(lambda c: ensure_organization(c, "after", START)),
        return_exceptions=True,
    )
    assert [type(answer).__name__ for answer in answers][::2] == ["Organization", "Organization"]
    assert isinstance(answers[1], Exception)


async def test_notices_come_after_the_commit_and_before_the_answer(bus: LocalBus, store: Store) -> None:
    """Whoever reads after an answer, or waits on the bus, misses nothing."""
    with bus.subscribe(Scope("acme")) as heard:
        await store.write(deploy)
        record = await asyncio.wait_for(heard.get(), PATIENCE_SECONDS)
    assert getattr(record, "organization", None) == "acme"


async def test_notices_of_a_failed_write_are_not_published(bus: LocalBus, store: Store) -> None:
    """Nobody may hear of what was undone."""

    def fail(connection: Connection) -> None:
        deploy(connection)
        raise Conflict("no")

    with bus.subscribe(Scope("acme")) as heard:
        with pytest.raises(Conflict):
            await store.write(fail)
        kept = await store.write(deploy)
        record = await asyncio.wait_for(heard.get(), PATIENCE_SECONDS)
    assert getattr(record, "job_id", None) == kept.job.id


async def test_a_read_changes_nothing(store: Store) -> None:
    """On SQLite a read that writes is refused, on PostgreSQL its snapshot is read only."""
    with pytest.raises(StoreError):
        await store.read(lambda c: ensure_organization(c, "sly", START))


async def test_positions_become_visible_in_their_order_with_two_relays(make_store: MakeStore, store: Store) -> None:
    """A reader that resumes after the last position it saw must never be overtaken by a lower one."""
    other = await make_store(LocalBus())
    seen: list[int] = []
    done = asyncio.Event()

    async def follow() -> None:
        last = 0
        while True:
            ended = done.is_set()
            positions = await store.read(
                lambda c, after=last: c.scalars(
                    text("SELECT position FROM job_events WHERE position > :after ORDER BY position"), {"after": after}
                ).all()
            )
            seen.extend(positions)
            last = seen[-1] if seen else 0
            if ended:
                return

    follower = asyncio.create_task(follow())
    await asyncio.gather(*(one.write(deploy) for _ in range(40) for one in (store, other)))
    done.set()
    await follower
    assert len(seen) == 80
    assert seen == sorted(seen)


async def test_writes_waiting_at_stop_are_finished(store: Store) -> None:
    """Stopping loses nothing that was asked before."""
    waiting = [asyncio.create_task(store.write(deploy)) for _ in range(20)]
    await asyncio.sleep(0)
    await store.stop()
    assert len({(await task).id for task in waiting}) == 20
    with pytest.raises(StoreUnavailable):
        await store.write(deploy)


async def test_epoch_stays_the_same_over_restarts(make_store: MakeStore, store: Store) -> None:
    """Only a restore changes it."""
    again = await make_store(LocalBus())
    assert again.epoch == store.epoch == await store.read(store_epoch)


async def test_a_connection_that_broke_is_made_again(store: Store, kind: str) -> None:
    """A database that was restarted needs no restart of the relay."""

    def break_all(connection: Connection) -> None:
        if kind == "postgresql":
            mine = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            connection.execute(text(f"{mine} AND pid <> pg_backend_pid()"))

    await store.read(lambda c: find_organization(c, "acme"))
    await store.write(break_all)
    assert (await store.read(lambda c: find_organization(c, "acme"))).name == "acme"
    await store.write(lambda c: ensure_organization(c, "after", START))


async def test_a_connection_that_breaks_fails_its_commit_and_no_other(store: Store, bus: LocalBus, kind: str) -> None:
    """Nothing of it is stored or told, and whoever asked learns that it failed."""
    # SQLite's library rolls back by itself when the disk is full.
    ending = "ROLLBACK" if kind == "sqlite" else "SELECT pg_terminate_backend(pg_backend_pid())"

    def break_this(connection: Connection) -> None:
        deploy(connection)
        connection.exec_driver_sql(ending)

    with bus.subscribe(Scope("acme")) as heard:
        answers = await asyncio.gather(
            store.write(lambda c: ensure_organization(c, "beside", START)),
            store.write(break_this),
            return_exceptions=True,
        )
        assert isinstance(answers[1], StoreUnavailable)
        kept = await store.write(deploy)
        record = await asyncio.wait_for(heard.get(), PATIENCE_SECONDS)
    assert getattr(record, "job_id", None) == kept.job.id
    stored = await store.read(lambda c: c.scalars(text("SELECT name FROM organizations ORDER BY name")).all())
    assert stored == (["acme"] if isinstance(answers[0], Exception) else ["acme", "beside"])


KILLED = """
import asyncio, os, signal, sys
from fairlead_relay.bus import LocalBus
from fairlead_relay.store import Store
from fairlead_relay.store.organizations import ensure_organization

async def main() -> None:
    store = Store(sys.argv[1], LocalBus().publish)
    await store.start()

    async def one(number: int) -> None:
        await store.write(lambda c: ensure_organization(c, f"o{number}", 1.0))
        os.write(1, f"o{number}\\n".encode())
        if number == 300:
            os.kill(os.getpid(), signal.SIGKILL)

    await asyncio.gather(*(one(number) for number in range(1000)))

asyncio.run(main())
"""


async def test_what_was_answered_outlives_a_kill(make_store: MakeStore, database_url: str) -> None:
    """A relay that is killed between two answers has stored everything it answered for, and can be started again."""
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, database_url, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await asyncio.wait_for(killed.communicate(), 60)
    answered = set(printed.decode().split())
    assert killed.returncode == -signal.SIGKILL
    assert "o300" in answered
    store = await make_store(LocalBus())
    stored = set(await store.read(lambda c: c.scalars(text("SELECT name FROM organizations")).all()))
    assert answered <= stored
    await store.write(lambda c: ensure_organization(c, "again", START))


async def test_a_lock_held_elsewhere_fails_writes_and_only_for_a_while(
    store: Store, database_url: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that holds the database too long costs the writes that waited, nothing else."""
    monkeypatch.setattr(engines, "_BUSY_SECONDS", 0.2)
    monkeypatch.setitem(engines._POSTGRESQL_OPTIONS, "options", "-c lock_timeout=200ms")
    impatient = Store(database_url, LocalBus().publish)
    await impatient.start()
    try:
        holder = writer_engine(parse_url(database_url))
        with holder.begin() as connection:
            if kind == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({writer._ADVISORY_LOCK})")
            with pytest.raises(StoreUnavailable):
                await impatient.write(lambda c: ensure_organization(c, "late", START))
        holder.dispose()
        await impatient.write(lambda c: ensure_organization(c, "late", START))
    finally:
        await impatient.stop()


async def test_what_rides_on_a_write_is_stored_with_it_or_not_at_all(store: Store) -> None:
    """Of writes that run together, each has its own; a write that fails has none, and nothing rides outside."""

    def ensure(connection: Connection, names: Sequence[str]) -> list[Organization | Conflict]:
        return [Conflict(name) if name == "taken" else ensure_organization(connection, name, START) for name in names]

    async def make(name: str) -> None:
        def ride(connection: Connection) -> None:
            ensure_organization(connection, f"with-{name}", START)

        with writer.riding(ride):
            await store.write_together(ensure, name)

    def fail(_: Connection) -> None:
        raise Conflict("no")

    await asyncio.gather(*map(make, ("one", "two", "taken")), return_exceptions=True)
    with writer.riding(fail):
        with pytest.raises(Conflict):
            await store.write(lambda c: ensure_organization(c, "undone", START))
        with writer.riding(None):
            await store.write(lambda c: ensure_organization(c, "alone", START))
    await store.write(lambda c: ensure_organization(c, "later", START))
    stored = await store.read(lambda c: c.scalars(text("SELECT name FROM organizations ORDER BY name")).all())
    assert stored == ["acme", "alone", "later", "one", "two", "with-one", "with-two"]
