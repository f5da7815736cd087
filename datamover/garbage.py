"""How often Python looks for what refers to itself in circles; everything else it frees at once, as ever.

Moving a file makes many objects, few of them in circles, and Python would walk through what lives each time that so
many were made: that was a fifth of the processor time of a job of small files.
"""

import gc

YOUNG = 20_000
"""Objects made, less those freed, before the youngest are looked at; Python's own figure is 700."""
MIDDLE = 20
"""Looks at the youngest before one at those that outlived one."""
OLD = 50
"""Looks at those before one at all."""


def look_less() -> None:
    """Leave what there is now alone for good, being code, and look at what is made from now on less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
