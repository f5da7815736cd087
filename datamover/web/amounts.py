"""Limits for the numbers that servers announce, so that no sum overflows. Pure."""

from collections.abc import Callable

from datamover.bounds.calls import LARGEST_FILE
from datamover.errors import Scope, ServerError

MOST_TOGETHER = 2**63 - 1
"""The largest sum: the largest number of the database."""


def movable(size: int | None, who: Callable[[], str]) -> int | None:
    """Return a size that a source announces; raises ServerError, naming ``who``, if no file can have it."""
    if size is not None and not 0 <= size <= LARGEST_FILE:
        raise beyond(f"{who()} announces", size, Scope.SOURCE)
    return size


def beyond(told: str, count: int, scope: Scope) -> ServerError:
    """Return the error for an impossible number of bytes; it is not retryable."""
    return ServerError(f"{told} {count} bytes, more than {LARGEST_FILE} can be moved", scope=scope, retryable=False)


def together(total: int) -> int:
    """Return a sum, cut to what the database can store."""
    return min(total, MOST_TOGETHER)
