"""
The clock watch: notices that the wall clock was set, or that the machine slept.

Deadlines and leases are times of the wall clock. One that jumps makes all of them pass at once, for agents that did
nothing wrong: what they hold would be called lost, or failed with an outcome that nobody knows. So time runs out for
nobody until it has settled: agents renew their leases by the new time, those that a sleep cut off come back and report
what happened meanwhile, and a clock that was set wrong can be set right.
"""

from __future__ import annotations

from collections.abc import Callable


class ClockWatch:
    """
    Compares the wall clock with one that cannot be set.

    Args:
        clock: Seconds since the epoch.
        monotonic: Seconds that only grow, and stand still while the machine sleeps.
        jump_seconds: By how much the two may part between two looks.
        settle_seconds: How long after a jump time runs out for nobody.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        jump_seconds: float,
        settle_seconds: float,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._jump_seconds = jump_seconds
        self._settle_seconds = settle_seconds
        self._apart = clock() - monotonic()
        self._settled_at = monotonic()

    def look(self) -> float:
        """Return by how many seconds the clock jumped since the last look, negative for back; 0 if it did not."""
        monotonic = self._monotonic()
        apart = self._clock() - monotonic
        jumped, self._apart = apart - self._apart, apart
        if abs(jumped) < self._jump_seconds:
            return 0.0
        self._settled_at = monotonic + self._settle_seconds
        return jumped

    @property
    def is_settled(self) -> bool:
        """Whether what the clock says may end something."""
        return self._monotonic() >= self._settled_at
