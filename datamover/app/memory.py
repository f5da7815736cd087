"""How this process manages its memory: when it looks for what is not used any more, and what it gives back at once.

Moving a file makes many objects, few of which refer to themselves in circles, and Python would walk through what lives
each time that so many were made: that was a fifth of the processor time of a job of small files.

A large file passes through buffers of up to a MiB. The C library would give the memory of some back as soon as it is
free, and the kernel would have to find it anew, page by page, for the next: little work, but not on a virtual machine
whose host takes back what is free.
"""

import ctypes
import gc
import sys

YOUNG = 20_000
"""Objects made, less those freed, before the youngest are looked at; Python's own figure is 700."""
MIDDLE = 20
"""Looks at the youngest before one at those that outlived one."""
OLD = 50
"""Looks at those before one at all."""

KEPT = 32 * 2**20
"""Bytes of free memory that are kept for what comes next."""
LARGE = 4 * 2**20
"""Bytes of what is given back alone, and at once, all the same."""
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
"""As mallopt(3) numbers them."""


def tune_memory() -> None:
    """Manage memory for moving files from now on; what there is now is left alone for good, being code."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # Of glibc; other C libraries have none.
        if mallopt is not None:
            mallopt(_M_TRIM_THRESHOLD, KEPT)
            mallopt(_M_MMAP_THRESHOLD, LARGE)
