"""
The watchdog: ends the process when its event loop is stuck, and for nothing else.

A loop that does not turn heartbeats no lease and answers no probe, and only a restart helps; a relay or an API server
that is away is no reason, however long. The watching thread counts its own wake-ups rather than time: a process that
was stopped or a machine that slept has not been stuck.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
from collections.abc import Callable

TICK_SECONDS = 5.0
STUCK_TICKS = 12
"""A minute without a turn of the loop: longer than any garbage collection or slow disk."""
EXIT_STUCK = 70


class Watchdog:
    """
    Watches one event loop from a thread.

    Args:
        on_stuck: Called in the watching thread, once.
        tick_seconds: Between two looks.
        stuck_ticks: Looks in a row that see no turn of the loop before it is called stuck.
    """

    def __init__(
        self, on_stuck: Callable[[], None], tick_seconds: float = TICK_SECONDS, stuck_ticks: int = STUCK_TICKS
    ) -> None:
        self._on_stuck = on_stuck
        self._tick_seconds = tick_seconds
        self._stuck_ticks = stuck_ticks
        self._stop = threading.Event()
        self._turned = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch the running loop."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._watch, args=(loop,), name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more; idempotent."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        missed = 0
        while not self._stop.is_set():
            self._turned.clear()
            try:
                loop.call_soon_threadsafe(self._turned.set)
            except RuntimeError:
                return  # the loop is closed
            if self._stop.wait(self._tick_seconds):
                return
            missed = 0 if self._turned.is_set() else missed + 1
            if missed >= self._stuck_ticks:
                self._on_stuck()
                return


def end_process() -> None:
    """Say where every thread stands, and end the process at once: a stuck loop cannot be asked to."""
    sys.stderr.write("fairlead-agent: the event loop is stuck; the process ends so that it is started anew\n")
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    sys.stderr.flush()
    os._exit(EXIT_STUCK)
