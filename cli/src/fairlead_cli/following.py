"""
Follows a live stream to its end, across network drops, relay restarts and laptops that slept.

Each event comes once: the stream is resumed after the last one seen. This module shows nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

from fairlead_cli.errors import RelayUnreachable
from fairlead_cli.records import StoredEvent
from fairlead_shared.backoff import full_jitter

GIVE_UP_SECONDS = 300.0
"""Without any connection; a relay's upgrade takes seconds, a person waits minutes."""

BASE_SECONDS = 0.5
CAP_SECONDS = 10.0

Stream = Callable[[int], Iterator[StoredEvent]]
"""Opens the stream after a position; ends at the story's end, raises RelayUnreachable when the connection breaks."""


def follow(
    stream: Stream,
    *,
    on_drop: Callable[[RelayUnreachable], None],
    after: int = 0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[StoredEvent]:
    """
    Yield the events of a stream until its story ends.

    Args:
        stream: How to open it.
        on_drop: Called each time the connection breaks, before it is made again.
        after: Position to begin after.
        clock: Seconds that never go back.
        sleep: Waits, in seconds.
    Raises: RelayUnreachable: nothing came for GIVE_UP_SECONDS.
    """
    position, failures = after, 0
    heard_at = clock()
    while True:
        try:
            for event in stream(position):
                heard_at, failures = clock(), 0
                if event.id > position:  # a relay may repeat what it cannot know was seen
                    position = event.id
                    yield event
        except RelayUnreachable as error:
            # A connection that broke after a quiet hour was alive until now: the hour does not count as silence.
            heard_at = clock() if failures == 0 else heard_at
            failures += 1
            if clock() - heard_at > GIVE_UP_SECONDS:
                raise
            on_drop(error)
            unit = random.random()  # noqa: S311  (spreads clients after a restart, guards nothing)
            sleep(full_jitter(failures, base_seconds=BASE_SECONDS, cap_seconds=CAP_SECONDS, random_unit=unit))
        else:
            return
