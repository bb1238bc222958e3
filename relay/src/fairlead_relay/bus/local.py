"""
The bus within one process: committed notices, handed to bounded queues.

Why bounded: a slow reader must not make the relay hold a deployment's whole story in memory. When a queue is full it is
emptied and its reader gets `LAGGED` once: it reads from the store what it missed. What other relays commit comes in by
bus/postgresql.py. Must not be used from another thread
than the event loop's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import Final, Literal, Self

from fairlead_relay.store.events import Scope
from fairlead_relay.store.outbox import EventRecord, Notice, Work


class Mark(Enum):
    """Signals beside the notices themselves."""

    WORK = "work"
    """Topic of all `Work` notices."""
    LAGGED = "lagged"
    """Notices were dropped: read from the store."""


WORK: Final = Mark.WORK
LAGGED: Final = Mark.LAGGED
Topic = Scope | Literal[Mark.WORK]

QUEUE_LENGTH: Final = 1000
"""A deployment of 250 objects makes about as many records; 1,000 readers that lag completely hold about 300 MiB."""


class Subscription:
    """
    A bounded queue of notices. Use it in a `with` statement, so that it ends with its reader.

    Args:
        bus: Where it is entered.
        topic: What it hears of.
        length: How many notices may wait.
    """

    def __init__(self, bus: LocalBus, topic: Topic, length: int) -> None:
        self._bus = bus
        self._topic = topic
        self._length = length
        self._waiting: deque[Notice] = deque()
        self._lagged = False
        self._filled = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hear no more. Idempotent."""
        self._bus.forget(self._topic, self)

    def put(self, notice: Notice) -> None:
        """Hand over a notice; called by the bus."""
        if len(self._waiting) >= self._length:
            self.lag()
        self._waiting.append(notice)
        self._filled.set()

    def lag(self) -> None:
        """Drop what waits; called by the bus when it missed something itself."""
        self._waiting.clear()
        self._lagged = True
        self._filled.set()

    async def get(self) -> Notice | Literal[Mark.LAGGED]:
        """Return the next notice, or LAGGED once before the first that follows dropped ones."""
        await self._filled.wait()
        lagged, self._lagged = self._lagged, False
        notice = None if lagged else self._waiting.popleft()
        if not self._waiting:
            self._filled.clear()
        return LAGGED if notice is None else notice

    def take_more(self) -> list[Notice]:
        """Return what waits, too, in order; nothing before a LAGGED."""
        if self._lagged:
            return []
        more = list(self._waiting)
        self._waiting.clear()
        self._filled.clear()
        return more


class LocalBus:
    """Publish and subscribe within one event loop."""

    def __init__(self, queue_length: int = QUEUE_LENGTH) -> None:
        self._queue_length = queue_length
        self._subscriptions: dict[Topic, set[Subscription]] = {}

    def subscribe(self, topic: Topic) -> Subscription:
        """
        Hear of what is committed from now on.

        Args:
            topic: The scope of the events wanted, or WORK.
        """
        subscription = Subscription(self, topic, self._queue_length)
        self._subscriptions.setdefault(topic, set()).add(subscription)
        return subscription

    def forget(self, topic: Topic, subscription: Subscription) -> None:
        """Remove a subscription. Idempotent."""
        known = self._subscriptions.get(topic, set())
        known.discard(subscription)
        if not known:
            self._subscriptions.pop(topic, None)

    def publish(self, notices: Iterable[Notice], before: int = 0) -> None:  # noqa: ARG002  (bus/postgresql.py needs it)
        """Hand committed notices to whoever asked for them, in order."""
        for notice in notices:
            for topic in _topics(notice):
                for subscription in self._subscriptions.get(topic, ()):
                    subscription.put(notice)

    def lag_work(self) -> None:
        """Have whoever listens for work look at the store."""
        for subscription in self._subscriptions.get(WORK, ()):
            subscription.lag()

    def lag_events(self) -> None:
        """Have whoever listens for events read the store from where it is."""
        for topic, subscriptions in self._subscriptions.items():
            if topic is not WORK:
                for subscription in subscriptions:
                    subscription.lag()

    def organizations(self) -> set[str]:
        """Return the organizations of which somebody wants to hear events."""
        return {topic.organization for topic in self._subscriptions if isinstance(topic, Scope)}


def _topics(notice: Notice) -> tuple[Topic, ...]:
    if isinstance(notice, Work):
        return (WORK,)
    return _topics_of_record(notice)


def _topics_of_record(record: EventRecord) -> tuple[Topic, ...]:
    of_job = Scope(record.organization, job_id=record.job_id)
    if record.deployment_id is None:
        return (of_job, Scope(record.organization))
    return (of_job, Scope(record.organization, deployment_id=record.deployment_id), Scope(record.organization))
