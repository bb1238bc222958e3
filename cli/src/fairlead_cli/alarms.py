"""
A time limit for the main thread, also while it waits for the network.

Timers of the process are used, so one alarm at a time; an outer one is put back.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TimeIsUp(Exception):
    """The limit passed; raised where the main thread happens to be."""


@contextmanager
def alarm_after(seconds: float | None) -> Iterator[None]:
    """
    Raise TimeIsUp in the block once it has run for some time.

    Args:
        seconds: > 0; None for no limit.
    """
    if seconds is None:
        yield
        return

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    started = time.monotonic()
    outer_seconds, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if outer_seconds:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, outer_seconds - (time.monotonic() - started)))
