"""Where the C library takes large blocks from."""

import subprocess
import sys

from tests.polling import PATIENCE_SECONDS

LOOK = """
import ctypes, sys

class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd".split()] + [
        ("rest", ctypes.c_size_t * 5)
    ]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Heap
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
if sys.argv[1] == "small":
    from fairlead_agent.heap import keep_small
    keep_small()
libc.free(libc.malloc(16 << 20))  # after this, glibc's own threshold is 16 MiB
before = libc.mallinfo2().hblks
held = [libc.malloc(256 << 10) for _ in range(20)]
print(libc.mallinfo2().hblks - before)
"""


def _kernels(mode: str) -> int:
    """Count how many of 20 blocks of 256 KiB are the kernel's."""
    finished = subprocess.run(
        [sys.executable, "-c", LOOK, mode], capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
    )
    return int(finished.stdout)


def test_large_blocks_are_the_kernels_whatever_was_freed() -> None:
    """Without the setting they come from the heap, where they stay resident."""
    assert (_kernels("small"), _kernels("as it is")) == (20, 0)


def test_what_was_imported_is_not_looked_at_by_the_collector() -> None:
    """With it, garbage is looked for only when there is a quarter as much of it."""
    look = "import gc, fairlead_agent.app, fairlead_agent.heap as heap; heap.keep_small(); print(len(gc.get_objects()))"
    finished = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
    )
    assert int(finished.stdout) < 1000
