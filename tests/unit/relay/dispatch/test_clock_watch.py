"""When a clock counts as set, and how long nothing ends by it then."""

from __future__ import annotations

import pytest

from fairlead_relay.dispatch.clock_watch import ClockWatch


class Clocks:
    """A wall clock and a monotonic one."""

    wall = 1_800_000_000.0
    steady = 50.0

    def pass_by(self, seconds: float, steady_seconds: float | None = None) -> None:
        """Let time pass, on the monotonic clock perhaps another."""
        self.wall += seconds
        self.steady += seconds if steady_seconds is None else steady_seconds

    def watch(self) -> ClockWatch:
        """Watch them."""
        return ClockWatch(lambda: self.wall, lambda: self.steady, jump_seconds=30, settle_seconds=300)


def test_time_that_passes_is_no_jump() -> None:
    """However long it is, and also where the clocks do not run at quite the same speed."""
    clocks = Clocks()
    watch = clocks.watch()
    assert (watch.look(), watch.is_settled) == (0.0, True)
    clocks.pass_by(86_400)
    assert (watch.look(), watch.is_settled) == (0.0, True)
    for _ in range(100):
        clocks.pass_by(1.1, 1.0)
        assert (watch.look(), watch.is_settled) == (0.0, True)


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0, 31.0, -31.0])
def test_a_jump_is_told_once_and_settles_by_the_clock_that_cannot_be_set(jump: float) -> None:
    """A second one begins the time anew."""
    clocks = Clocks()
    watch = clocks.watch()
    clocks.pass_by(jump + 1, 1)
    assert watch.look() == pytest.approx(jump)
    assert not watch.is_settled
    clocks.pass_by(200)
    assert (watch.look(), watch.is_settled) == (0.0, False)
    clocks.pass_by(-jump, 0)
    assert watch.look() == pytest.approx(-jump)
    clocks.pass_by(299)
    assert (watch.look(), watch.is_settled) == (0.0, False)
    clocks.pass_by(1)
    assert (watch.look(), watch.is_settled) == (0.0, True)
