"""Long work in slices: transactions of a number of rows, smaller after a slow one and larger after a quick one.

A slice that waits too long for the locks of others is given up, and a smaller one is tried.
"""

from collections.abc import Awaitable, Callable
from time import monotonic

from datamover.errors import NotNow
from datamover.postgres.database import Cursor, Database
from datamover.postgres.named_queries import QUERIES

FIRST = 1000
LEAST = 50
MOST = 20_000
"""The rows of the first, the smallest and the largest slice."""
LONG = 0.2
"""Seconds after which the next slice is smaller; after less than a quarter of them it is larger."""

_LIMIT = QUERIES["limit_slice"]


class SliceSize:
    """The number of rows of the next slice. Pure."""

    def __init__(self) -> None:
        self.rows = FIRST

    def took(self, seconds: float) -> None:
        """Adapt the size to the seconds that a full slice took."""
        if seconds > LONG:
            self.rows = max(LEAST, self.rows // 2)
        elif seconds < LONG / 4:
            self.rows = min(MOST, self.rows * 2)

    def gave_up(self) -> bool:
        """Reduce the size after a slice that gave up; return whether a smaller one can be tried."""
        smaller = self.rows > LEAST
        self.rows = max(LEAST, self.rows // 4)
        return smaller


class Slices:
    """The slices of one kind of work."""

    def __init__(self, database: Database, clock: Callable[[], float] = monotonic) -> None:
        """``clock`` returns monotonic seconds."""
        self._database = database
        self._clock = clock
        self.size = SliceSize()

    async def run(self, work: Callable[[Cursor, int], Awaitable[bool]]) -> bool:
        """Run ``work`` in a transaction, with the number of rows that it may process; return what it returns.

        ``work`` returns whether there is more. Raises what it raises, Unavailable, and NotNow if even the smallest
        slice gave up.
        """
        while True:
            began = self._clock()

            async def once(cursor: Cursor) -> bool:
                nonlocal began
                began = self._clock()  # The time that it waited for a connection does not count.
                await cursor.post(_LIMIT)
                return await work(cursor, self.size.rows)

            try:
                more = await self._database.transaction(once)
            except NotNow:
                if not self.size.gave_up():
                    raise
                continue
            if more:
                self.size.took(self._clock() - began)
            return more
