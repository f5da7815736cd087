"""The database's clock set back: what is due is brought forward, or it would wait until it is again as late as it was.

What is little (who lives, leases, breakers) at once; what waits, of which there may be millions, a slice at a time. How
far that is stands in the database, so that it is done once, by whomever. Every method raises Unavailable while the
database is away.
"""

from collections.abc import Callable
from time import monotonic

from twisted.logger import Logger

from datamover.jobs.database import Cursor, Database
from datamover.jobs.slices import Slices
from datamover.jobs.sql import Queries

log = Logger()

NOTICED = 2.0
"""Seconds that the clock must have been set back by."""

_QUERIES = Queries.load()


class Setbacks:
    """Of one database's clock."""

    def __init__(self, database: Database, clock: Callable[[], float] = monotonic) -> None:
        """``clock`` tells seconds, and is another: of this process."""
        self._database = database
        self._slices = Slices(database, clock)
        self._clock = clock

    async def notice(self) -> int:
        """Look whether the clock was set back, and begin to mend it; return by how many seconds."""

        async def mend(cursor: Cursor) -> float:
            await cursor.post(_QUERIES["serialise_mending"])  # So that nobody else does it too.
            seconds = await self._set_back(cursor)
            if seconds >= NOTICED:
                log.warn("the clock of the database was set back by {seconds:.0f} s", seconds=seconds)
                await cursor.post(_QUERIES["mend_nodes"])
                for name in ("mend_leases", "mend_breakers", "begin_mending"):
                    await cursor.post(_QUERIES[name], {"seconds": seconds})
            return seconds

        seconds = await self._database.transaction(self._set_back)
        return round(await self._database.transaction(mend)) if seconds >= NOTICED else 0

    async def go_on(self, seconds: float) -> int:
        """Go on for so many ``seconds`` with what anybody has begun; return the number of slices."""
        ends, slices = self._clock() + seconds, 0
        while self._clock() < ends and await self._slices.run(self._mend):
            slices += 1
        return slices

    async def _set_back(self, cursor: Cursor) -> float:
        found = await cursor.fetch_one(_QUERIES["read_set_back"])
        return found["seconds"] or 0.0 if found else 0.0

    async def _mend(self, cursor: Cursor, rows: int) -> bool:
        setback = await cursor.fetch_one(_QUERIES["lock_setback"])
        if setback is None:
            return False
        last = await cursor.fetch_one(_QUERIES[f"mend_{setback['what']}"], {**setback, "rows": rows})
        if last is None:
            await cursor.post(_QUERIES["end_setback"], {"id": setback["id"]})
        else:
            await cursor.post(_QUERIES["note_setback"], {**last, "id": setback["id"]})
        return True
