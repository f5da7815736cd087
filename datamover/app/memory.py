"""Tune the garbage collector and the C library's allocator for moving files.

Moving a file makes many objects and few reference cycles. With Python's own thresholds the collector took a fifth of
the CPU time of a job of small files.

A large file passes through buffers of up to a MiB. By default glibc returns some of them to the kernel when they are
freed and asks for them again, page by page. That is expensive on a virtual machine whose host reclaims free memory.
"""

import ctypes
import gc
import sys

YOUNG = 20_000
"""Threshold of the youngest generation: objects made less objects freed. Python's default is 700."""
MIDDLE = 20
"""Collections of the youngest generation before one of the middle one."""
OLD = 50
"""Collections of the middle generation before one of the oldest."""

KEPT = 32 * 2**20
"""M_TRIM_THRESHOLD: bytes of free memory that are kept."""
LARGE = 4 * 2**20
"""M_MMAP_THRESHOLD: an allocation of so many bytes is returned to the kernel when it is freed."""
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
"""Numbers of mallopt(3)."""


def tune_memory() -> None:
    """Set the thresholds, and exclude every object that exists now (mostly code) from garbage collection."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # Only glibc has it.
        if mallopt is not None:
            mallopt(_M_TRIM_THRESHOLD, KEPT)
            mallopt(_M_MMAP_THRESHOLD, LARGE)
