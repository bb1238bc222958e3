"""When another relay counts as gone."""

from __future__ import annotations

from fairlead_relay.dispatch.relay_watch import RelayWatch


class Clock:
    """A clock that tests turn."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_a_relay_that_counts_no_more_is_gone_after_so_much_silence() -> None:
    """One that counts on is not, nor one that was not seen before."""
    clock = Clock()
    watch = RelayWatch(clock, silent_seconds=20, look_seconds=5)
    for second in range(20):
        assert watch.look({"dead": 7, "alive": second}) == {}
        clock.now += 1
    assert watch.look({"dead": 7, "alive": 20, "new": 1}) == {"dead": 7}
    assert watch.look({"dead": 8, "alive": 21, "new": 2}) == {}


def test_silence_while_nobody_looked_does_not_count() -> None:
    """The store was away for all of them, or this machine slept."""
    clock = Clock()
    watch = RelayWatch(clock, silent_seconds=20, look_seconds=5)
    assert watch.look({"other": 1}) == {}
    for _ in range(3):
        clock.now += 3600
        assert watch.look({"other": 1}) == {}
    clock.now += 5
    assert watch.look({"other": 1}) == {"other": 1}
    assert watch.look({}) == {}
    assert watch.look({"other": 1}) == {}
