"""
Corrections of one object: when the next may be made, and whether somebody fights them. Pure: no I/O, no clock.

The first is made at once. Whoever changes the object back gets longer and longer to do so, so that two controllers that
want different things cost a few writes an hour instead of hundreds a second, and the report says that they do. An hour
without another correction ends it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

DELAYS_SECONDS: Final = (10.0, 30.0, 120.0, 600.0, 1800.0)
"""After the first, second, ... correction; after all later ones the last."""
CALM_SECONDS: Final = 3600.0
"""Without a correction for so long, whatever was changed is history."""
FIGHT_CORRECTIONS: Final = 3
FIGHT_SECONDS: Final = 600.0
"""So many corrections of the same field within this time are a fight: somebody writes it again each time."""


@dataclass(frozen=True, slots=True)
class Corrections:
    """
    What was done about one object; nothing is the same for all of thousands.

    Times are monotonic seconds.
    """

    count: int = 0
    """Corrections made."""
    is_fought: bool = False
    """Whether the same field had to be corrected again and again."""
    attempts: int = 0
    """Those that came to nothing included."""
    last_at: float = float("-inf")
    fields: tuple[tuple[float, frozenset[str]], ...] = ()
    """The last corrections: when, and what."""

    @property
    def next_at(self) -> float:
        """When the next may be made."""
        if not self.attempts:
            return self.last_at
        return self.last_at + DELAYS_SECONDS[min(self.attempts, len(DELAYS_SECONDS)) - 1]

    @property
    def calm_at(self) -> float:
        """When all this will be history, if nothing is corrected until then."""
        return self.last_at + CALM_SECONDS

    def made(self, at: float, fields: Iterable[str]) -> Corrections:
        """
        Return it with a correction.

        Args:
            at: When.
            fields: Pointers of what was corrected; empty for an object that was made again.
        """
        made = (*self.fields, (at, frozenset(fields) or frozenset({""})))[-FIGHT_CORRECTIONS:]
        counted = Counter(field for when, corrected in made if when >= at - FIGHT_SECONDS for field in corrected)
        is_fought = self.is_fought or any(count >= FIGHT_CORRECTIONS for count in counted.values())
        return replace(self.failed(at), count=self.count + 1, is_fought=is_fought, fields=made)

    def failed(self, at: float) -> Corrections:
        """Return it with an attempt that came to nothing: the next waits as after a correction."""
        return replace(self, attempts=self.attempts + 1, last_at=at)


NOTHING_DONE: Final = Corrections()
