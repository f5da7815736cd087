"""Numbers that servers tell, and how large they may be: of what they are added to, nothing overflows. Pure."""

from datamover.errors import Scope, ServerError

MOST = 2**53
"""Bytes of a file, or of what else is counted: up to here a double, which clients are told them in, is exact."""
NO_COUNT = 2**64
"""What no program counts to: who tells so many bytes has told none."""
MOST_TOGETHER = 2**63 - 1
"""What sums come to, at most: there the database's numbers end."""
FAR = 366 * 86_400.0
"""Seconds that a server may ask us to wait; what is beyond says no more."""


def movable(size: int | None, who: str, scope: Scope = Scope.SOURCE) -> int | None:
    """Return a size that ``who`` announces; raises ServerError for one that no file has."""
    if size is not None and not 0 <= size <= MOST:
        raise beyond(f"{who} announces", size, scope)
    return size


def beyond(told: str, count: int, scope: Scope) -> ServerError:
    """Return the error for a number of bytes that is told where none can be: it will be told again."""
    return ServerError(f"{told} {count} bytes, more than {MOST} can be moved", scope=scope, retryable=False)


def together(total: int) -> int:
    """Return a sum as the database can keep it."""
    return min(total, MOST_TOGETHER)
