"""Limits for the numbers that servers announce, so that no sum overflows. Pure."""

from collections.abc import Callable

from datamover.errors import Scope, ServerError

MOST = 2**53
"""The most bytes of a file: up to here the doubles in which clients get them are exact."""
NO_COUNT = 2**64
"""From here on a number of bytes is not a count: it is treated as malformed."""
MOST_TOGETHER = 2**63 - 1
"""The largest sum: the largest number of the database."""
FAR = 366 * 86_400.0
"""The most seconds that a server may ask to wait."""


def movable(size: int | None, who: Callable[[], str]) -> int | None:
    """Return a size that a source announces; raises ServerError, naming ``who``, if no file can have it."""
    if size is not None and not 0 <= size <= MOST:
        raise beyond(f"{who()} announces", size, Scope.SOURCE)
    return size


def beyond(told: str, count: int, scope: Scope) -> ServerError:
    """Return the error for an impossible number of bytes; it is not retryable."""
    return ServerError(f"{told} {count} bytes, more than {MOST} can be moved", scope=scope, retryable=False)


def together(total: int) -> int:
    """Return a sum, cut to what the database can store."""
    return min(total, MOST_TOGETHER)
