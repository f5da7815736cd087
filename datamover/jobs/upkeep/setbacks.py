"""Correcting due times after the database's clock was set back; without that, work would wait until they come again.

Heartbeats, leases and breakers, which are few, are corrected at once; transfers and notices that wait, of which there
may be millions, a slice at a time. The position is stored in the database, so that each row is corrected once, by any
process. A row that the database refuses to change is skipped and keeps its due time. Every method raises Unavailable
while the database is away.
"""

from collections.abc import Callable
from functools import partial
from time import monotonic

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency.loops import OnRefusal, log_refusal
from datamover.errors import Unavailable
from datamover.jobs.upkeep.slices import Slices
from datamover.postgres.database import Cursor, Database
from datamover.postgres.named_queries import QUERIES

log = Logger()

NOTICED = 2.0
"""Seconds by which the clock must have been set back for a correction."""

_WORDS = {"transfers": "the time of file {index}", "notices": "the time of the notice"}


class Setbacks:
    """Corrects due times after setbacks of the database's clock."""

    def __init__(
        self, database: Database, clock: Callable[[], float] = monotonic, refused: OnRefusal = log_refusal
    ) -> None:
        """``clock`` returns monotonic seconds of this process."""
        self._database = database
        self._refused = refused
        self._slices = Slices(database, clock)
        self._clock = clock

    async def notice(self) -> int:
        """Check whether the clock was set back, and begin a correction; return the seconds, 0 if it was not."""

        async def mend(cursor: Cursor) -> float:
            await cursor.post(QUERIES["serialise_mending"])  # So that no other process does it too.
            seconds = await self._set_back(cursor)
            if seconds >= NOTICED:
                log.warn("the clock of the database was set back by {seconds:.0f} s", seconds=seconds)
                await cursor.post(QUERIES["mend_nodes"])
                for name in ("mend_leases", "mend_breakers", "begin_mending"):
                    await cursor.post(QUERIES[name], {"seconds": seconds})
            return seconds

        seconds = await self._database.transaction(self._set_back)
        return round(await self._database.transaction(mend)) if seconds >= NOTICED else 0

    async def go_on(self, seconds: float) -> int:
        """Continue corrections for ``seconds``; return the number of slices."""
        ends, slices = self._clock() + seconds, 0
        while self._clock() < ends and await self._go_on():
            slices += 1
        return slices

    async def _go_on(self) -> bool:
        try:
            return await self._slices.run(self._mend)
        except (CancelledError, Unavailable):
            raise
        except Exception:
            return await self._go_past(self._slices.size.rows, Failure())  # type: ignore[no-untyped-call]

    async def _go_past(self, rows: int, failure: Failure) -> bool:
        """Correct the rows before the one that made the database refuse a slice of ``rows``, or skip that one."""
        while rows > 1:
            rows //= 2
            try:
                return await self._database.transaction(partial(self._mend, rows=rows))
            except (CancelledError, Unavailable):
                raise
            except Exception:
                failure = Failure()  # type: ignore[no-untyped-call]

        passed_over = await self._database.transaction(partial(self._step, rows=1, how=".passed_over"))
        if passed_over is not None:
            self._refused("clock", passed_over, failure)
        return passed_over is not None

    async def _set_back(self, cursor: Cursor) -> float:
        found = await cursor.fetch_one(QUERIES["read_set_back"])
        return found["seconds"] or 0.0 if found else 0.0

    async def _mend(self, cursor: Cursor, rows: int) -> bool:
        return await self._step(cursor, rows) is not None

    async def _step(self, cursor: Cursor, rows: int, how: str = "") -> str | None:
        """Correct the next ``rows`` rows; return the last one, in words, or None if no correction is under way."""
        setback = await cursor.fetch_one(QUERIES["lock_setback"])
        if setback is None:
            return None
        what = setback["what"]
        last = await cursor.fetch_one(QUERIES[f"mend_{what}{how}"], {**setback, "rows": rows})
        if last is None:
            await cursor.post(QUERIES["end_setback"], {"id": setback["id"]})
            return f"the rest of the {what}"
        await cursor.post(QUERIES["note_setback"], {**last, "id": setback["id"]})
        return f"{_WORDS[what]} of job {last['job']}".format(**last)
