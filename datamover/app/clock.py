"""Time the reactor by a monotonic clock.

Twisted times its calls by ``time.time``. When that clock is set back by an hour, every delayed call waits an hour
longer, and no lease is renewed meanwhile; when it is set ahead, everything times out at once.
"""

import time
from typing import Any


def use_monotonic_clock(reactor: Any) -> None:
    """Have a reactor time its calls by ``time.monotonic``. Call it before anything is scheduled."""
    reactor.seconds = time.monotonic
