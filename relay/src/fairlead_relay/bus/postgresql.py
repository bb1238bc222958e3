"""
The bus between relays that share a PostgreSQL: hears what the others commit, and keeps the order of events.

The writer announces each commit by NOTIFY in the commit's own transaction (store/announcements.py). A connection of its
own listens here. Work wakes the dispatcher at once. Of events only a position is announced: they are read from the
store, once for all readers of this relay, and handed on in the order of their positions. This relay's own commits need
no such read unless another relay's commit lies between, which a commit tells by the position that it found before it:
a reader that got 10 before 9 would resume after 10 and never see 9.

The store is the truth. Notifications that are lost, a listener that is cut off, a relay that was away: all are made up
for by looking at the newest position every few seconds, and the dispatcher's sweep finds the work. Whoever is too far
behind is told to read the store by itself.

Must not be told of a position before it is committed, and must not delay the writers of a commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from fairlead_relay.bus.local import LocalBus
from fairlead_relay.errors import StoreError
from fairlead_relay.store.announcements import CHANNEL, Announcement
from fairlead_relay.store.engines import listener_arguments, parse_url
from fairlead_relay.store.events import newest_position, read_between
from fairlead_relay.store.outbox import EventRecord, Notice, Work
from fairlead_shared.backoff import full_jitter

if TYPE_CHECKING:
    from fairlead_relay.store import Store

LOOK_SECONDS: Final = 2.0
"""How often the newest position is looked at, one lookup of an index: how long a lost notification delays a stream."""
_READ_RECORDS: Final = 500
"""Records per read: about 150 KiB, and a few milliseconds of the store."""
_FAR_BEHIND: Final = 5_000
"""Positions beyond which every reader reads for itself: their queues would overflow anyway."""
_BASE_SECONDS: Final = 0.5
_CAP_SECONDS: Final = 10.0
"""Bounds of the pause before the listener connects again."""


class SharedBus:
    """
    Stands between a store that other relays write to as well, and the bus of this one.

    Args:
        bus: Where this relay's readers listen.
        database_url: Of the PostgreSQL.
        logger: Bound by the owner; gets no secrets.
        look_seconds: See LOOK_SECONDS.
    """

    def __init__(
        self,
        bus: LocalBus,
        database_url: str,
        logger: structlog.typing.FilteringBoundLogger,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._bus = bus
        self._url = parse_url(database_url)
        self._logger = logger
        self._look_seconds = look_seconds
        self._told = 0
        """Every event up to this position was handed on, or is before the time of whoever listens."""
        self._wanted = 0
        """Events up to this position are to be handed on."""
        self._behind = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, store: Store) -> None:
        """
        Begin to listen. Idempotent.

        Args:
            store: Started; the one whose `publish` is this bus's.
        Raises: StoreUnavailable: the database does not answer.
        """
        if self._tasks:
            return
        self._note_told(await store.read(newest_position))
        works = {
            "listen": self._listen_forever(store.sender),
            "fill": self._fill_forever(store),
            "look": self._look_regularly(store),
        }
        self._tasks = [asyncio.create_task(work, name=f"bus-{name}") for name, work in works.items()]

    async def stop(self) -> None:
        """Listen no more. Idempotent; complete on return."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def publish(self, notices: Sequence[Notice], before: int) -> None:
        """
        Take the notices of an own commit.

        Args:
            notices: In order.
            before: Position of the last event that was stored before them.
        """
        records = [notice for notice in notices if isinstance(notice, EventRecord)]
        if not records:
            self._bus.publish(notices)
            return
        if before > self._told:
            # Another relay's events lie between. All of them come from the store, in order.
            self._bus.publish([notice for notice in notices if isinstance(notice, Work)])
            self._want(records[-1].position)
            return
        self._bus.publish([one for one in notices if isinstance(one, Work) or one.position > self._told])
        self._note_told(records[-1].position)

    def _note_told(self, position: int) -> None:
        self._told = max(self._told, position)
        self._wanted = max(self._wanted, self._told)

    def _want(self, position: int) -> None:
        self._wanted = max(self._wanted, position)
        if self._wanted > self._told:
            self._behind.set()

    # From the others.

    async def _listen_forever(self, sender: str) -> None:
        failures = 0
        while True:
            try:
                async with contextlib.aclosing(_notifications(listener_arguments(self._url))) as payloads:
                    async for payload in payloads:
                        if payload is None:
                            if failures:
                                self._logger.info("bus_listens_again")
                            failures = 0
                            # What was announced before it listened is unknown; events are looked for anyway.
                            self._bus.lag_work()
                        else:
                            self._hear(payload, sender)
            except Exception as error:  # noqa: BLE001  (task boundary: the driver's errors are a tree of its own)
                failures += 1
                if failures == 1:
                    self._logger.warning("bus_cut_off", error=_words(error))
            unit = random.random()  # noqa: S311  (spreads reconnects, no secret)
            seconds = full_jitter(
                max(failures, 1), base_seconds=_BASE_SECONDS, cap_seconds=_CAP_SECONDS, random_unit=unit
            )
            await asyncio.sleep(seconds)

    def _hear(self, payload: str, sender: str) -> None:
        try:
            said = Announcement.from_payload(payload)
        except ValueError as error:
            # A newer version's, or a stranger's on the same channel: look at everything.
            self._logger.warning("bus_heard_nonsense", error=str(error))
            self._bus.lag_work()
            return
        if said.sender == sender:
            return
        if said.clusters is None:
            self._bus.lag_work()
        else:
            self._bus.publish([Work(*cluster) for cluster in said.clusters])
        self._want(said.position)

    async def _fill_forever(self, store: Store) -> None:
        while True:
            await self._behind.wait()
            self._behind.clear()
            try:
                await self._fill(store)
            except StoreError as error:
                self._logger.warning("bus_waits_for_store", error=str(error))
                # The next look at the newest position begins anew.

    async def _fill(self, store: Store) -> None:
        """Hand on everything between what was told and what is wanted."""
        while self._told < (upto := self._wanted):
            organizations = self._bus.organizations()
            if upto - self._told > _FAR_BEHIND:
                self._bus.lag_events()
                self._note_told(upto)
            elif not organizations:
                self._note_told(upto)
            else:
                # Whoever subscribes while this reads, reads the store itself from after `upto` was committed.
                read = partial(
                    read_between, organizations=organizations, after=self._told, upto=upto, limit=_READ_RECORDS
                )
                records = await store.read(read)
                # Own commits may have been handed on meanwhile.
                self._bus.publish([record for record in records if record.position > self._told])
                self._note_told(upto if len(records) < _READ_RECORDS else records[-1].position)

    async def _look_regularly(self, store: Store) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            try:
                self._want(await store.read(newest_position))
            except StoreError as error:
                self._logger.warning("bus_waits_for_store", error=str(error))


async def _notifications(arguments: dict[str, Any]) -> AsyncGenerator[str | None, None]:
    """Connect and yield None once it listens, then each notification's payload. Raises: psycopg.Error, OSError."""
    # The driver is an extra, which only a relay on PostgreSQL has.
    import psycopg  # noqa: PLC0415  (only where a PostgreSQL is used)

    async with await psycopg.AsyncConnection.connect(**arguments) as connection:
        await connection.execute(f"LISTEN {CHANNEL}")
        yield None
        async for notification in connection.notifies():
            yield notification.payload


def _words(error: Exception) -> str:
    """Return the first line of a driver's words; it names no secret of the URL."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
