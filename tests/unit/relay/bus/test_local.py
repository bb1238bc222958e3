"""The bus hands notices to those who asked, in order, and tells whoever lags."""

from __future__ import annotations

import asyncio

from fairlead_relay.bus import LAGGED, WORK, LocalBus
from fairlead_relay.store.events import Scope
from fairlead_relay.store.outbox import EventRecord, Work


def record(position: int, job_id: str = "job", deployment_id: str | None = "deployment") -> EventRecord:
    """Return a stored record."""
    return EventRecord(position, "acme", deployment_id, job_id, 1, 0.0, "{}", final=False)


async def test_a_subscription_hears_its_scope_in_order() -> None:
    """And nothing of others."""
    bus = LocalBus()
    with (
        bus.subscribe(Scope("acme")) as all_of_it,
        bus.subscribe(Scope("acme", job_id="other")) as job,
        bus.subscribe(Scope("acme", deployment_id="deployment")) as deployment,
        bus.subscribe(WORK) as work,
        bus.subscribe(Scope("globex")) as stranger,
    ):
        notices: list[EventRecord | Work] = [record(1), Work("acme", "one"), record(2, "other", None), record(3)]
        bus.publish(notices)
        assert [await all_of_it.get() for _ in range(3)] == [notices[0], notices[2], notices[3]]
        assert await job.get() == notices[2]
        assert [await deployment.get() for _ in range(2)] == [notices[0], notices[3]]
        assert await work.get() == notices[1]
        waiting = asyncio.ensure_future(stranger.get())
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()


async def test_a_reader_that_waits_is_woken() -> None:
    """It need not poll."""
    bus = LocalBus()
    with bus.subscribe(WORK) as work:
        waiting = asyncio.ensure_future(work.get())
        await asyncio.sleep(0)
        bus.publish([Work("acme", "one")])
        assert await waiting == Work("acme", "one")


async def test_a_reader_that_lags_is_told_once_and_goes_on() -> None:
    """What it missed is in the store."""
    bus = LocalBus(queue_length=3)
    with bus.subscribe(Scope("acme")) as slow:
        bus.publish([record(position) for position in range(1, 6)])
        assert [await slow.get() for _ in range(3)] == [LAGGED, record(4), record(5)]
        bus.publish([record(6)])
        assert await slow.get() == record(6)


async def test_readers_are_told_that_the_bus_itself_missed_something() -> None:
    """Those of work and those of events apart; what waited is in the store as well."""
    bus = LocalBus()
    with bus.subscribe(Scope("acme")) as heard, bus.subscribe(WORK) as work:
        bus.publish([record(1), Work("acme", "one")])
        bus.lag_events()
        assert await work.get() == Work("acme", "one")
        bus.lag_work()
        assert await work.get() is LAGGED
        assert await heard.get() is LAGGED
        waiting = asyncio.ensure_future(heard.get())
        await asyncio.sleep(0)
        assert not waiting.done()
        bus.publish([record(2)])
        assert await waiting == record(2)


async def test_the_bus_knows_of_whom_somebody_wants_to_hear() -> None:
    """Nobody reads the events of other organizations only to throw them away."""
    bus = LocalBus()
    with bus.subscribe(Scope("acme")), bus.subscribe(Scope("acme", job_id="job")), bus.subscribe(WORK):
        assert bus.organizations() == {"acme"}
    assert bus.organizations() == set()


async def test_a_closed_subscription_costs_nothing() -> None:
    """Closing twice is closing once."""
    bus = LocalBus()
    with bus.subscribe(WORK) as work:
        work.close()
    bus.publish([Work("acme", "one")])
    assert bus._subscriptions == {}
