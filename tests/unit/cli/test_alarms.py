"""Time limits: rung in the middle of waiting, never afterwards."""

import signal
import threading

import pytest

from fairlead_cli.alarms import TimeIsUp, alarm_after


def test_alarm_ends_what_waits() -> None:
    """Waiting for the network looks like this wait."""
    with pytest.raises(TimeIsUp), alarm_after(0.05):
        threading.Event().wait(10)


def test_nothing_rings_after_the_block() -> None:
    """The outer timer and handler are put back, such as this test's own time limit."""
    before = signal.getsignal(signal.SIGALRM)
    outer_seconds, _ = signal.getitimer(signal.ITIMER_REAL)
    with alarm_after(60):
        pass
    assert signal.getsignal(signal.SIGALRM) is before
    assert 0 <= outer_seconds - signal.getitimer(signal.ITIMER_REAL)[0] < 59


def test_no_limit_sets_no_alarm() -> None:
    """Watching without --timeout goes on for ever."""
    before = signal.getsignal(signal.SIGALRM)
    with alarm_after(None):
        assert signal.getsignal(signal.SIGALRM) is before
