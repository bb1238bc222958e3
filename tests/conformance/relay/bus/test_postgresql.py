"""Two relays on one PostgreSQL hear of each other's commits at once, in order, and lose nothing when they do not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import structlog
from sqlalchemy import Connection, text

from fairlead_relay.bus import LAGGED, WORK, LocalBus, SharedBus, Subscription
from fairlead_relay.bus import postgresql as shared_bus
from fairlead_relay.dispatch import Dispatcher, DispatchLimits
from fairlead_relay.store import Store
from fairlead_relay.store.announcements import CHANNEL
from fairlead_relay.store.events import Scope, newest_position, read_between
from fairlead_relay.store.outbox import EventRecord, Work, outbox
from fairlead_relay.store.revocation import revoke_agent
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import JobCancel, JobOffer
from tests.conformance.domain import ORGANIZATION, START, deploy, hello, identity_of, seed
from tests.polling import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.parametrize("kind", ["postgresql"])

NEVER_SECONDS = 3600.0
ALL = Scope(ORGANIZATION)


@dataclass
class Relay:
    """What a relay has of the store and the buses."""

    store: Store
    bus: LocalBus
    shared: SharedBus


@dataclass
class Link:
    """A connection that keeps what it is given."""

    offers: list[JobOffer] = field(default_factory=list)
    closed: list[ErrorCode] = field(default_factory=list)

    def offer(self, message: JobOffer) -> None:
        """Keep an offer."""
        self.offers.append(message)

    def cancel(self, message: JobCancel) -> None:
        """Take a cancel."""

    def close(self, reason: str, code: ErrorCode = ErrorCode.OVERLOADED) -> None:
        """Keep the code."""
        assert reason
        self.closed.append(code)


MakeRelay = Callable[..., Awaitable[Relay]]


@pytest.fixture
async def make_relay(database_url: str) -> AsyncIterator[MakeRelay]:
    """Start a relay's store and buses; by default it never looks by itself."""
    relays: list[Relay] = []

    async def make(look_seconds: float = NEVER_SECONDS, *, listens: bool = True) -> Relay:
        bus = LocalBus()
        shared = SharedBus(bus, database_url, structlog.get_logger(), look_seconds)
        store = Store(database_url, shared.publish)
        await store.start()
        relay = Relay(store, bus, shared)
        relays.append(relay)
        with bus.subscribe(WORK) as work:
            await shared.start(store)
            if listens:
                assert await asyncio.wait_for(work.get(), PATIENCE_SECONDS) is LAGGED
        return relay

    yield make
    for relay in relays:
        await relay.shared.stop()
        await relay.store.stop()


@pytest.fixture
async def here(make_relay: MakeRelay) -> Relay:
    """The relay that listens."""
    relay = await make_relay()
    await relay.store.write(seed)
    return relay


@pytest.fixture
async def there(make_relay: MakeRelay, here: Relay) -> Relay:
    """The relay that writes; the database is seeded."""
    assert here is not None
    return await make_relay()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Note (after, upto) of each read that a bus makes for its readers."""
    made: list[tuple[int, int]] = []

    def read(connection: Connection, organizations: set[str], after: int, upto: int, limit: int) -> list[EventRecord]:
        made.append((after, upto))
        return read_between(connection, organizations, after, upto, limit)

    monkeypatch.setattr(shared_bus, "read_between", read)
    return made


async def positions(heard: Subscription, count: int) -> list[int]:
    """Return the positions of the next records."""
    found: list[int] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(found) < count:
            notice = await heard.get()
            assert isinstance(notice, EventRecord)
            found.append(notice.position)
    return found


async def cut(store: Store) -> int:
    """End every listener's connection in the server; returns how many there were."""
    listening = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        f" WHERE datname = current_database() AND query = 'LISTEN {CHANNEL}'"
    )
    ended: int = await store.write(lambda c: c.execute(text(listening)).scalar_one())
    return ended


async def test_a_commit_is_heard_at_the_other_relay(here: Relay, there: Relay) -> None:
    """Work wakes its dispatcher, and the records come from the store."""
    with here.bus.subscribe(WORK) as work, here.bus.subscribe(ALL) as heard:
        made = await there.store.write(deploy)
        assert await asyncio.wait_for(work.get(), PATIENCE_SECONDS) == Work(ORGANIZATION, "one")
        record = await asyncio.wait_for(heard.get(), PATIENCE_SECONDS)
    assert isinstance(record, EventRecord)
    assert (record.job_id, record.final) == (made.job.id, False)


async def test_own_commits_are_not_read_again(here: Relay, there: Relay, reads: list[tuple[int, int]]) -> None:
    """Their notifications come back too, and cost nothing."""
    with here.bus.subscribe(ALL) as heard, here.bus.subscribe(WORK) as work:
        for _ in range(5):
            await here.store.write(deploy)
        found = await positions(heard, 5)
        # Notifications come in the order of commits: once this one is here, the others were.
        await there.store.write(lambda c: outbox(c).append(Work(ORGANIZATION, "last")))
        while await asyncio.wait_for(work.get(), PATIENCE_SECONDS) != Work(ORGANIZATION, "last"):
            pass
    assert found == sorted(set(found))
    assert reads == []


async def test_records_of_two_relays_come_in_their_order_and_once(
    here: Relay, there: Relay, reads: list[tuple[int, int]]
) -> None:
    """A reader that resumes after the last position it saw misses nothing, at either relay."""
    with here.bus.subscribe(ALL) as heard_here, there.bus.subscribe(ALL) as heard_there:
        await asyncio.gather(*(one.store.write(deploy) for _ in range(60) for one in (here, there)))
        first = await positions(heard_here, 120)
        second = await positions(heard_there, 120)
    assert first == second == sorted(set(first))
    assert reads


async def test_records_are_not_read_for_nobody(here: Relay, there: Relay, reads: list[tuple[int, int]]) -> None:
    """A relay without readers of an organization leaves its records where they are."""
    with here.bus.subscribe(WORK) as work:
        await there.store.write(deploy)
        assert await asyncio.wait_for(work.get(), PATIENCE_SECONDS) == Work(ORGANIZATION, "one")
    newest = await here.store.read(newest_position)

    async def is_told() -> bool:
        return here.shared._told == newest

    await eventually(is_told, "the position to be noted")
    assert reads == []


async def test_a_listener_that_was_cut_off_looks_at_the_store_when_it_is_back(here: Relay, there: Relay) -> None:
    """What was announced meanwhile is found, and what comes later is heard again."""
    with here.bus.subscribe(WORK) as work, here.bus.subscribe(ALL) as heard:
        assert await cut(there.store) >= 2
        await there.store.write(deploy)
        while await asyncio.wait_for(work.get(), PATIENCE_SECONDS) is not LAGGED:
            pass
        await there.store.write(deploy)
        assert len(await positions(heard, 2)) == 2


async def test_lost_notifications_cost_only_time(make_relay: MakeRelay, here: Relay) -> None:
    """With a bus that is cut for good, looking at the newest position finds the records."""
    deaf = await make_relay(0.05, listens=False)
    await deaf.shared.stop()
    deaf.shared._tasks = [
        asyncio.create_task(deaf.shared._fill_forever(deaf.store)),
        asyncio.create_task(deaf.shared._look_regularly(deaf.store)),
    ]
    with deaf.bus.subscribe(ALL) as heard:
        made = [await here.store.write(deploy) for _ in range(3)]
        found = await positions(heard, 3)
    assert len(found) == len(made)


async def test_a_reader_far_behind_reads_for_itself(
    here: Relay, there: Relay, monkeypatch: pytest.MonkeyPatch, reads: list[tuple[int, int]]
) -> None:
    """Its queue would overflow anyway."""
    monkeypatch.setattr(shared_bus, "_FAR_BEHIND", 2)
    with here.bus.subscribe(ALL) as heard:
        await there.store.write(lambda c: [deploy(c) for _ in range(5)])
        assert await asyncio.wait_for(heard.get(), PATIENCE_SECONDS) is LAGGED
        await there.store.write(deploy)
        assert len(await positions(heard, 1)) == 1
    assert len(reads) == 1


async def test_too_many_clusters_to_name_mean_all(here: Relay, there: Relay) -> None:
    """A payload has its limit; the dispatcher then looks at every agent it has."""
    named = [Work(ORGANIZATION, f"a-cluster-with-a-long-name-{number}") for number in range(300)]
    with here.bus.subscribe(WORK) as work:
        await there.store.write(lambda c: outbox(c).extend(named))
        assert await asyncio.wait_for(work.get(), PATIENCE_SECONDS) is LAGGED


async def test_nonsense_on_the_channel_is_survived(here: Relay, there: Relay) -> None:
    """Somebody else's notification wakes everybody, and hurts nobody."""
    with here.bus.subscribe(WORK) as work:
        for payload in ("", "{}", "[1,2]", '["x",1,[1]]'):
            await there.store.write(
                lambda c, said=payload: c.execute(text("SELECT pg_notify(:to, :said)"), {"to": CHANNEL, "said": said})
            )
            assert await asyncio.wait_for(work.get(), PATIENCE_SECONDS) is LAGGED
        await there.store.write(deploy)
        assert await asyncio.wait_for(work.get(), PATIENCE_SECONDS) == Work(ORGANIZATION, "one")


@contextlib.asynccontextmanager
async def dispatching(relay: Relay, relay_id: str, sweep_seconds: float) -> AsyncIterator[Dispatcher]:
    """Run a dispatcher."""
    limits = DispatchLimits(sweep_seconds=sweep_seconds)
    dispatcher = Dispatcher(relay.store, relay.bus, relay_id, lambda: START, limits, structlog.get_logger())
    await dispatcher.start()
    try:
        yield dispatcher
    finally:
        await dispatcher.stop()


async def test_a_job_enqueued_at_one_relay_is_offered_by_the_other_at_once(here: Relay, there: Relay) -> None:
    """Its sweep has no part in that."""
    async with dispatching(here, "here", NEVER_SECONDS) as dispatcher:
        link = Link()
        opened = await dispatcher.connect(identity_of("one"), hello(), link)
        dispatcher.start_offers(opened.session_id)
        await there.store.write(deploy)

        async def is_offered() -> bool:
            return bool(link.offers)

        await eventually(is_offered, "the offer")


async def test_a_sweep_finds_the_work_when_the_notification_is_lost(make_relay: MakeRelay, here: Relay) -> None:
    """Truth is in the store."""
    deaf = await make_relay(listens=False)
    await deaf.shared.stop()
    async with dispatching(deaf, "deaf", 0.05) as dispatcher:
        link = Link()
        opened = await dispatcher.connect(identity_of("one"), hello(), link)
        dispatcher.start_offers(opened.session_id)
        await here.store.write(deploy)

        async def is_offered() -> bool:
            return bool(link.offers)

        await eventually(is_offered, "the offer")


async def test_a_revocation_made_at_one_relay_disconnects_at_the_other(here: Relay, there: Relay) -> None:
    """With the next sweep, which comes well within the five seconds that are promised."""
    assert DispatchLimits().sweep_seconds < 5
    async with dispatching(here, "here", DispatchLimits().sweep_seconds) as dispatcher:
        link = Link()
        await dispatcher.connect(identity_of("one"), hello(), link)
        await there.store.write(lambda c: revoke_agent(c, ORGANIZATION, "one", START))

        async def is_closed() -> bool:
            return bool(link.closed)

        await eventually(is_closed, "the connection to be closed")
        assert link.closed == [ErrorCode.REVOKED]
