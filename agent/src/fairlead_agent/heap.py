"""
The C library's heap: have large buffers come from the kernel, and go back to it.

Each TLS connection of the event loop has a buffer of 256 KiB, of which a watch touches a few KiB. glibc gives such a
block from its heap once one of that size was freed, and what others left there stays resident. Where the library is
another one, this does nothing.

Source: https://man7.org/linux/man-pages/man3/mallopt.3.html
"""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3
_MMAP_BYTES = 64 * 1024


def keep_small() -> None:
    """Fix the size from which on a block is the kernel's: unset, glibc raises it up to 32 MiB as blocks are freed."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
