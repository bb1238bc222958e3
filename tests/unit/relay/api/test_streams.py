"""Following records: what is stored, what is heard, and what was missed, each once and in order."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from fairlead_relay.api import streams
from fairlead_relay.bus import LocalBus
from fairlead_relay.store.events import Scope
from fairlead_relay.store.outbox import EventRecord
from tests.polling import PATIENCE_SECONDS

SCOPE = Scope("acme", deployment_id="d1")
Records = AsyncIterator[Any]
"""Lists of records, and signs, as follow_records yields them."""


class Stage:
    """A store and a bus as streams see them."""

    def __init__(self, queue_length: int) -> None:
        self.stored: list[EventRecord] = []
        self.is_over = False
        self.bus = LocalBus(queue_length)
        self.services: Any = SimpleNamespace(store=self, bus=self.bus, stopping=asyncio.Event())

    async def read(self, run: partial[object]) -> tuple[list[EventRecord], bool]:
        """Answer the one question that streams ask of the store."""
        after = run.keywords["after"]
        found = [record for record in self.stored if record.position > after][: streams._READ_RECORDS]
        return found, self.is_over and len(found) < streams._READ_RECORDS

    def happen(self, position: int, *, final: bool = False, announce: bool = True) -> None:
        """Commit a record, and tell the bus unless the notice shall be lost."""
        record = EventRecord(position, "acme", "d1", "j1", 1, 0.0, "{}", final)
        self.stored.append(record)
        self.is_over = self.is_over or final
        if announce:
            self.bus.publish([record])

    def follow(self, after: int = 0, *, scope: Scope = SCOPE) -> Records:
        """Open a stream."""
        return streams.follow_records(self.services, scope, after, follow=True)


async def positions(stream: Records) -> list[int]:
    """Read a stream to its end."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return [record.position async for found in stream if isinstance(found, list) for record in found]


async def test_what_was_stored_and_heard_at_the_same_time_comes_once() -> None:
    """Listening begins before reading, so a record may come from both sides."""
    stage = Stage(100)
    stage.happen(1)
    stream = stage.follow()
    assert [record.position for record in await anext(stream)] == [1]
    stage.happen(2)
    stage.bus.publish(stage.stored)
    stage.happen(3, final=True)
    assert await positions(stream) == [2, 3]


async def test_a_reader_that_lagged_reads_the_store_and_misses_nothing() -> None:
    """Its queue was emptied; the story has no gap all the same."""
    stage = Stage(3)
    stage.happen(1)
    stream = stage.follow()
    await anext(stream)
    for position in range(2, 30):
        stage.happen(position)
    assert [record.position for record in await anext(stream)] == list(range(2, 30))
    stage.happen(30, final=True)
    assert await positions(stream) == [30]


async def test_more_than_one_read_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long stories come in pieces that do not hold the store up."""
    monkeypatch.setattr(streams, "_READ_RECORDS", 10)
    stage = Stage(3)
    for position in range(1, 21):
        stage.happen(position, final=position == 20)
    assert await positions(stage.follow()) == list(range(1, 21))
    assert await positions(stage.follow(15)) == [16, 17, 18, 19, 20]


async def test_an_idle_stream_gives_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies cut connections on which nothing moves."""
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.02)
    stage = Stage(3)
    stream = streams._as_sse(stage.follow())
    assert await anext(stream) == ": connected\n\n"
    assert await anext(stream) == await anext(stream) == ": ping\n\n"
    stage.happen(7, final=True)
    assert (await anext(stream)).startswith("id: 7\ndata: {")
    assert await anext(stream) == "event: end\ndata: {}\n\n"


async def test_the_end_of_one_job_does_not_end_an_organizations_stream() -> None:
    """It has others; only the relay's stop ends it."""
    stage = Stage(10)
    stream = stage.follow(scope=Scope("acme"))
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    stage.happen(1, final=True)
    stage.is_over = False
    assert [record.position for record in await first] == [1]
    stage.services.stopping.set()
    assert await positions(stream) == []
    assert not stage.bus._subscriptions
