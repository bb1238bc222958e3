"""
The relay watch: notices that another relay counts no more.

Silence is what was seen between looks that followed each other closely: while the store was away, or this machine
slept, nobody could count, and nobody is called dead for it. Must not: know the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping


class RelayWatch:
    """
    Compares the counts of other relays from look to look.

    Args:
        monotonic: Seconds that only grow.
        silent_seconds: After so much silence a relay is gone.
        look_seconds: More than that between two looks does not count.
    """

    def __init__(self, monotonic: Callable[[], float], silent_seconds: float, look_seconds: float) -> None:
        self._monotonic = monotonic
        self._silent_seconds = silent_seconds
        self._look_seconds = look_seconds
        self._looked_at = monotonic()
        self._known: dict[str, tuple[int, float]] = {}
        """Relay → its count, and for how long it has been that."""

    def look(self, beats: Mapping[str, int]) -> dict[str, int]:
        """Take the counts of all others. Returns: Those that are gone, with the count they stopped at."""
        now = self._monotonic()
        passed, self._looked_at = min(now - self._looked_at, self._look_seconds), now
        before, self._known = self._known, {}
        for relay_id, beat in beats.items():
            known, silence = before.get(relay_id, (None, 0.0))
            self._known[relay_id] = (beat, silence + passed if beat == known else 0.0)
        return {name: beat for name, (beat, silence) in self._known.items() if silence >= self._silent_seconds}
