"""The clock that everything here is timed by: one that nobody can set.

Twisted times its calls by ``time.time``. Set back by an hour, it would wait for an hour longer: nothing is renewed,
watched or claimed meanwhile; set ahead, everything times out at once.
"""

import time
from typing import Any


def use_monotonic_clock(reactor: Any) -> None:
    """Have a reactor time its calls by ``time.monotonic``; for when nothing waits for a time yet."""
    reactor.seconds = time.monotonic
