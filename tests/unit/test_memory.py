"""How a process manages its memory."""

import subprocess
import sys

ROUNDS = 50
PAGES = ROUNDS * 8 * 256
"""What the buffers of all rounds together come to."""
BUFFERS = f"""
import gc, resource
from datamover.app.memory import YOUNG, tune_memory
tune_memory()
assert gc.get_threshold()[0] == YOUNG
assert gc.get_freeze_count()
for _ in range({ROUNDS}):
    buffers = [b"%d" % number * 2**20 for number in range(8)]
    del buffers
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def test_buffers_are_kept() -> None:
    """The memory of a buffer serves the next one: the kernel is not asked for it again, page by page."""
    told = subprocess.run([sys.executable, "-c", BUFFERS], check=True, capture_output=True, text=True)
    assert int(told.stdout) < PAGES / 5
