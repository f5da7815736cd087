"""The database's clock set back: what is due is brought forward, or it would wait until it is again as late as it was.

What is little (who lives, leases, breakers) at once; what waits, of which there may be millions, a slice at a time. How
far that is stands in the database, so that it is done once, by whomever. What the database refuses of one of those is
found out by halves and passed over: it is due when it is due. Every method raises Unavailable while the
database is away.
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
from datamover.postgres.named_queries import NamedQueries

log = Logger()

NOTICED = 2.0
"""Seconds that the clock must have been set back by."""

_QUERIES = NamedQueries.load()
_WORDS = {"transfers": "the time of file {index}", "notices": "the time of the notice"}


class Setbacks:
    """Of one database's clock."""

    def __init__(
        self, database: Database, clock: Callable[[], float] = monotonic, refused: OnRefusal = log_refusal
    ) -> None:
        """``clock`` tells seconds, and is another: of this process."""
        self._database = database
        self._refused = refused
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
        while self._clock() < ends and await self._go_on():
            slices += 1
        return slices

    async def _go_on(self) -> bool:
        try:
            return await self._slices.run(self._mend)
        except (CancelledError, Unavailable):
            raise
        except Exception:
            return await self._go_past(self._slices.pace.rows, Failure())  # type: ignore[no-untyped-call]

    async def _go_past(self, rows: int, failure: Failure) -> bool:
        """Mend what stands before the row that a slice of so many ``rows`` was refused for, or pass that over."""
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
        found = await cursor.fetch_one(_QUERIES["read_set_back"])
        return found["seconds"] or 0.0 if found else 0.0

    async def _mend(self, cursor: Cursor, rows: int) -> bool:
        return await self._step(cursor, rows) is not None

    async def _step(self, cursor: Cursor, rows: int, how: str = "") -> str | None:
        """Take the next ``rows`` of what was begun; return what that was up to, in words, None where nothing was."""
        setback = await cursor.fetch_one(_QUERIES["lock_setback"])
        if setback is None:
            return None
        what = setback["what"]
        last = await cursor.fetch_one(_QUERIES[f"mend_{what}{how}"], {**setback, "rows": rows})
        if last is None:
            await cursor.post(_QUERIES["end_setback"], {"id": setback["id"]})
            return f"what is left of the {what}"
        await cursor.post(_QUERIES["note_setback"], {**last, "id": setback["id"]})
        return f"{_WORDS[what]} of job {last['job']}".format(**last)
