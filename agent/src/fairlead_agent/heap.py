"""
The heap: have large buffers come from the kernel, and go back to it; have what is done with be found early.

Each TLS connection of the event loop has a buffer of 256 KiB, of which a watch touches a few KiB. glibc gives such a
block from its heap once one of that size was freed, and what others left there stays resident. Where the library is
another one, this does nothing.

Python looks for objects that only refer to each other, such as a deployment that ended, once there are a quarter more
than the last time. What was imported, tens of thousands, is not to count in that: it stays as long as the process.

Source: https://man7.org/linux/man-pages/man3/mallopt.3.html
Source: https://docs.python.org/3/library/gc.html#gc.freeze
"""

from __future__ import annotations

import ctypes
import gc

_M_MMAP_THRESHOLD = -3
_MMAP_BYTES = 64 * 1024


def keep_small() -> None:
    """
    Fix the size from which on a block is the kernel's, and keep what there is now out of what the collector looks at.

    Unset, glibc raises that size up to 32 MiB as blocks are freed. To be called once everything is imported.
    """
    gc.collect()
    gc.freeze()
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
