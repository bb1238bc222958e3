"""
Corrections of one object: when the next may be made, and whether somebody fights them. Pure: no I/O, no clock.

The first is made at once. Whoever changes the object back gets longer and longer to do so, so that two controllers that
want different things cost a few writes an hour instead of hundreds a second, and the report says that they do. An hour
without another correction ends it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

DELAYS_SECONDS: Final = (10.0, 30.0, 120.0, 600.0, 1800.0)
"""After the first, second, ... correction; after all later ones the last."""
CALM_SECONDS: Final = 3600.0
"""Without a correction for so long, whatever was changed is history."""
FIGHT_CORRECTIONS: Final = 3
FIGHT_SECONDS: Final = 600.0
"""So many corrections of the same field within this time are a fight: somebody writes it again each time."""


class Corrections:
    """
    What was done about one object.

    Times are monotonic seconds. Small, since each watched object has one.
    """

    __slots__ = ("_attempts", "_fields", "_last_at", "count", "is_fought")

    def __init__(self) -> None:
        self.count = 0
        """Corrections made."""
        self.is_fought = False
        """Whether the same field had to be corrected again and again."""
        self._attempts = 0
        self._last_at = float("-inf")
        self._fields: tuple[tuple[float, frozenset[str]], ...] = ()

    @property
    def next_at(self) -> float:
        """When the next may be made."""
        if not self._attempts:
            return self._last_at
        return self._last_at + DELAYS_SECONDS[min(self._attempts, len(DELAYS_SECONDS)) - 1]

    @property
    def calm_at(self) -> float:
        """When all this will be history, if nothing is corrected until then."""
        return self._last_at + CALM_SECONDS

    def made(self, at: float, fields: Iterable[str]) -> None:
        """
        Take note of a correction.

        Args:
            at: When.
            fields: Pointers of what was corrected; empty for an object that was made again.
        """
        self.failed(at)
        self.count += 1
        self._fields = (*self._fields, (at, frozenset(fields) or frozenset({""})))[-FIGHT_CORRECTIONS:]
        recent = [corrected for when, corrected in self._fields if when >= at - FIGHT_SECONDS]
        counted = Counter(field for corrected in recent for field in corrected)
        self.is_fought = self.is_fought or any(count >= FIGHT_CORRECTIONS for count in counted.values())

    def failed(self, at: float) -> None:
        """Take note of an attempt that came to nothing: the next waits as after a correction."""
        self._attempts += 1
        self._last_at = at
