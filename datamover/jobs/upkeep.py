"""What any engine does for all jobs, now and then: deadlines that have passed, old histories, a clock set back.

Harmless when several do it at once. What the database refuses of one job is left for a while, and the others' is done.
Every method raises Unavailable while the database is away.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from functools import partial

from twisted.logger import Logger

from datamover.errors import DeadlineExceeded, NotNow
from datamover.jobs.database import Cursor, Database, Json, Row
from datamover.jobs.endings import Telling, finish, tell
from datamover.jobs.refusals import Aside, apart
from datamover.jobs.sql import Queries
from datamover.jobs.work import Remark, error_column
from datamover.loops import Refused, tell_refused

log = Logger()

DAY = 86_400.0
NOTICED = 2.0
"""Seconds that the database's clock must have been set back by."""


class Upkeep:
    """For the whole database."""

    def __init__(
        self,
        database: Database,
        retention: Callable[[], float] = lambda: 90 * DAY,
        audited: Callable[[], float] = lambda: 365 * DAY,
        *,
        refused: Refused = tell_refused,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``retention`` tells the seconds that a job which has ended stays readable, ``audited`` those of a deed."""
        self._database = database
        self._retention = retention
        self._audited = audited
        self._refused = refused
        self._aside = Aside(monotonic)
        self._queries = Queries.load()

    async def mend_clock(self) -> int:
        """Bring forward what is due, where the database's clock was set back; return by how many seconds.

        Retries, leases of the dead, probes and notices would wait until it is again as late as it was.
        """

        async def mend(cursor: Cursor) -> float:
            await cursor.execute(self._queries["serialise_claims"])  # So that nobody else does it too.
            seconds = await self._set_back(cursor)
            if seconds >= NOTICED:
                log.warn("the clock of the database was set back by {seconds:.0f} s", seconds=seconds)
                await cursor.execute(self._queries["mend_nodes"])
                for name in ("mend_transfers", "mend_breakers", "mend_notices"):
                    await cursor.execute(self._queries[name], {"seconds": seconds})
            return seconds

        seconds = await self._database.transaction(self._set_back)
        return round(await self._database.transaction(mend)) if seconds >= NOTICED else 0

    async def _set_back(self, cursor: Cursor) -> float:
        found = await cursor.fetch_one(self._queries["read_set_back"])
        return found["seconds"] or 0.0 if found else 0.0

    async def end_overdue(self) -> int:
        """End what waits in jobs whose deadline has passed; what runs is ended by who holds it. Return how many."""
        found = await self._database.read(self._queries["read_overdue"])
        return sum(await self._each("deadlines", found, self._end_jobs))

    async def _end_jobs(self, jobs: Sequence[int], telling: Telling = Telling.ALL) -> dict[int, int]:
        """Return how many files were failed, by job."""

        async def do(cursor: Cursor) -> dict[int, int]:
            await cursor.execute(self._queries["serialise_claims"])
            await cursor.execute(self._queries["lock_jobs"], {"jobs": list(jobs)})
            found = await cursor.fetch(self._queries["read_overdue"])
            failed = {row["id"]: await self._end(cursor, row["id"], row["now"]) for row in found if row["id"] in jobs}
            await finish(cursor, list(failed), telling)
            return failed

        return await self._database.transaction(do) if jobs else {}

    async def _each(
        self, loop: str, found: Sequence[Row], do: Callable[..., Awaitable[dict[int, int]]]
    ) -> Collection[int]:
        """Do something with jobs, piecemeal where that is refused; what is refused of one is left for a while.

        Refused again it is done without being told; where that is refused too, it waits.
        """
        passed_over = set(self._aside.ids)
        done, refused = await apart(do, [row for row in found if row["id"] not in passed_over])
        for job in done:
            self._aside.take_back(job)
        for row, failure in refused:
            again = self._aside.put(row["id"]) > 1
            self._refused(loop, f"job {row['id']}", failure)
            if again and not isinstance(failure.value, NotNow):
                await apart(partial(do, telling=Telling.NOTHING), [row])
        return done.values()

    async def _end(self, cursor: Cursor, job: int, now: datetime) -> int:
        error = Json(error_column(DeadlineExceeded("the job's deadline has passed"), attempt=0, at=now))
        files = await cursor.fetch(self._queries["fail_waiting"], {"job": job, "error": error})
        await cursor.execute(self._queries["unpause_overdue"], {"job": job})
        if files:
            await cursor.execute(self._queries["count_failed"], {"job": job, "files": len(files), "error": error})
        return len(files)

    async def retire(self) -> int:
        """Forget jobs that ended longer ago than the retention, but for their owner; return how many.

        Old deeds are forgotten with them.
        """
        retention = {"retention": self._retention()}
        await self._database.execute(self._queries["forget_audit"], {"retention": self._audited()})
        retired = 0
        while some := await self._each(
            "retirement", await self._database.read(self._queries["read_retired"], retention), self._forget
        ):
            retired += len(some)
        await self._database.execute(self._queries["forget_old_events"], retention)
        return retired

    async def _forget(self, jobs: Sequence[int], telling: Telling = Telling.ALL) -> dict[int, int]:
        async def do(cursor: Cursor) -> None:
            await cursor.execute(self._queries["forget_events"], {"jobs": list(jobs)})
            await tell(cursor, [(job, None, Remark("expired")) for job in jobs], telling)
            await cursor.execute(self._queries["retire"], {"jobs": list(jobs)})
            await cursor.execute(self._queries["forget_jobs"], {"jobs": list(jobs)})

        if jobs:
            await self._database.transaction(do)
        return dict.fromkeys(jobs, 0)
