"""Long work, a slice at a time: less after one that took long, more after one that was quick.

A slice is a transaction. It gives up where it would wait for others for long, and then a smaller one is tried.
"""

from collections.abc import Awaitable, Callable
from time import monotonic

from datamover.errors import NotNow
from datamover.postgres.database import Cursor, Database
from datamover.postgres.named_queries import NamedQueries

FIRST = 1000
LEAST = 50
MOST = 20_000
"""Rows."""
LONG = 0.2
"""Seconds that a slice should not take; one of a quarter of that is followed by a larger one."""

_LIMIT = NamedQueries.load()["limit_slice"]


class SliceSize:
    """How many rows the next slice has. Pure."""

    def __init__(self, rows: int = FIRST) -> None:
        self.rows = rows

    def took(self, seconds: float) -> None:
        """Take note of how long a slice took that was as large as it might be."""
        if seconds > LONG:
            self.rows = max(LEAST, self.rows // 2)
        elif seconds < LONG / 4:
            self.rows = min(MOST, self.rows * 2)

    def gave_up(self) -> bool:
        """Take note of a slice that gave up; tell whether a smaller one can be tried."""
        smaller = self.rows > LEAST
        self.rows = max(LEAST, self.rows // 4)
        return smaller


class Slices:
    """Of one kind of work."""

    def __init__(self, database: Database, clock: Callable[[], float] = monotonic) -> None:
        """``clock`` tells seconds."""
        self._database = database
        self._clock = clock
        self.pace = SliceSize()

    async def run(self, work: Callable[[Cursor, int], Awaitable[bool]]) -> bool:
        """Run ``work`` in a transaction, with the number of rows that it may take on; it tells whether there are more.

        Returns that. Raises what it raises, and Unavailable; NotNow where even the smallest slice did not end.
        """
        while True:
            began = self._clock()

            async def once(cursor: Cursor) -> bool:
                nonlocal began
                began = self._clock()  # Waiting for a connection is none of it.
                await cursor.post(_LIMIT)
                return await work(cursor, self.pace.rows)

            try:
                more = await self._database.transaction(once)
            except NotNow:
                if not self.pace.gave_up():
                    raise
                continue
            if more:
                self.pace.took(self._clock() - began)
            return more
