"""
Which transport the link opens next: a websocket, or long-poll where the network keeps no websocket.

Networks differ in what they cut: some proxies end a tunnel after a minute, some when it is idle, some answer the
upgrade themselves. Nobody tells the agent, so it counts what happened to its connections; nothing is configured. Must
not open anything.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

EARLY_SECONDS = 120.0
"""A websocket that was cut at this age or before counts as one that could not be kept."""
EARLY_CLOSES = 3
"""After so many in a row: one or two are a restarted relay or a bad moment."""
POLL_SECONDS = 600.0
"""How long to poll before a websocket is tried again: a network's rules change seldom."""


class Transport(StrEnum):
    """How frames travel."""

    WEBSOCKET = "websocket"
    LONG_POLL = "long-poll"


class TransportChoice:
    """
    Counts what happened and says what to try.

    Args:
        random_unit: Uniform random numbers in [0, 1): a fleet behind one proxy must not try again at one moment.
    """

    def __init__(self, random_unit: Callable[[], float]) -> None:
        self._random = random_unit
        self._early = 0
        self._poll_until = 0.0

    def next(self, now: float) -> Transport:
        """Return what to open now."""
        return Transport.LONG_POLL if now < self._poll_until else Transport.WEBSOCKET

    def poll_seconds_left(self, now: float) -> float:
        """Return after how long a long-poll session is to be left for a websocket; 0: at once."""
        return max(0.0, self._poll_until - now)

    def ended(self, transport: Transport, lived_seconds: float, now: float, *, was_cut: bool) -> None:
        """
        Take note of a session that ended after its welcome.

        Args:
            transport: What it ran over.
            lived_seconds: From the welcome to the end.
            now: Monotonic seconds.
            was_cut: Whether it ended without a word of the relay, by a broken connection or by silence.
        """
        if transport is Transport.LONG_POLL:
            self._end_polling(was_cut=was_cut)
        elif lived_seconds > EARLY_SECONDS:
            self._early = 0
        elif was_cut:
            self._count(now)

    def failed(self, transport: Transport, now: float, *, upgrade_refused: bool) -> None:
        """
        Take note of a connection that came to no welcome.

        Args:
            transport: What was tried.
            now: Monotonic seconds.
            upgrade_refused: Whether everything below worked and something answered the upgrade with a no.
        """
        if transport is Transport.LONG_POLL:
            self._end_polling(was_cut=True)
        elif upgrade_refused:
            self._count(now)

    def _count(self, now: float) -> None:
        self._early += 1
        if self._early >= EARLY_CLOSES:
            self._poll_until = now + POLL_SECONDS * (0.75 + 0.5 * self._random())

    def _end_polling(self, *, was_cut: bool) -> None:
        if was_cut:
            # Not better than a websocket, or no longer: begin anew. One more cut websocket leads back to polls.
            self._poll_until = 0.0
            self._early = min(self._early, EARLY_CLOSES - 1)
