"""When a request that failed for the moment is sent again within the attempt. Pure.

A new attempt would begin without this one's connections and what it has in memory. Pauses grow exponentially, with
jitter (AWS Architecture Blog, "Exponential Backoff And Jitter").
"""

from collections.abc import Callable

from datamover.bounds.servers import LONGEST_PAUSE_WITHIN
from datamover.errors import (
    ChecksumMismatch,
    ConnectFailed,
    ConnectionLost,
    DataMoverError,
    RateLimited,
    ServerError,
    TimedOut,
)

PASSING = (ChecksumMismatch, ConnectFailed, ConnectionLost, RateLimited, ServerError, TimedOut)
"""Errors after which a request is sent again; not Stalled, since that try has taken ``idle_timeout`` already."""
TRIES = 6
BASE = 0.25
"""Seconds of the first pause."""


def pause_before(tries: int, error: DataMoverError, random: Callable[[], float], *, most: int = TRIES) -> float | None:
    """Return the seconds to wait after ``tries`` tries of ``most``, None if the request is not to be sent again.

    A first try that failed is repeated at once, unless the service asks for fewer requests. ``random`` returns numbers
    from 0 to 1.
    """
    asked = error.retry_after or 0.0
    if not error.retryable or not isinstance(error, PASSING) or tries >= most or asked > LONGEST_PAUSE_WITHIN:
        return None
    if tries == 1 and not asked and not isinstance(error, RateLimited):
        return 0.0
    return max(asked, BASE * 2.0 ** (tries - 1) * (0.5 + random() / 2))
