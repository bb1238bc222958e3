"""What every write and read of the store promises."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Connection, text

from fairlead_relay.bus import LocalBus
from fairlead_relay.errors import Conflict, StoreError, StoreUnavailable
from fairlead_relay.store import Store
from fairlead_relay.store.events import Scope
from fairlead_relay.store.meta import store_epoch
from fairlead_relay.store.organizations import Organization, ensure_organization, find_organization
from tests.conformance.conftest import MakeStore
from tests.conformance.domain import START, deploy


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
        record = await asyncio.wait_for(heard.get(), 1)
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
        record = await asyncio.wait_for(heard.get(), 1)
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
