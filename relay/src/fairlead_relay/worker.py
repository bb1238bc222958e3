"""
What a process of the relay's own making does first: it is spawned for work that would hold up the event loop.

Must not: be handed anything that belongs to the relay's own process, such as a connection or a lock.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait


def begin_worker(nice: int = 0) -> None:
    """
    Leave Ctrl-C to the relay, and do not outlive it when it is killed.

    Args:
        nice: How far the priority of this process is below the relay's, 0 to 19.
    """
    os.nice(nice)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
