"""What any engine does for all jobs, now and then: deadlines that have passed, old histories, a clock set back.

Harmless when several do it at once. Every method raises Unavailable while the database is away.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from twisted.logger import Logger

from datamover.errors import DeadlineExceeded
from datamover.jobs import news
from datamover.jobs.database import Cursor, Database, Json
from datamover.jobs.sql import Queries
from datamover.jobs.work import error_column

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
    ) -> None:
        """``retention`` tells the seconds that a job which has ended stays readable, ``audited`` those of a deed."""
        self._database = database
        self._retention = retention
        self._audited = audited
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

        async def do(cursor: Cursor) -> int:
            found = await cursor.fetch(self._queries["read_overdue"])
            overdue = [row["id"] for row in found]
            if not overdue:
                return 0
            await cursor.execute(self._queries["serialise_claims"])
            await cursor.execute(self._queries["lock_jobs"], {"jobs": overdue})
            failed = 0
            for job in overdue:
                failed += await self._end(cursor, job, found[0]["now"])
            for row in await cursor.fetch(self._queries["finish_jobs"], {"jobs": overdue}):
                details = Json({"status": row["state"]})
                event = {"job": row["id"], "file": None, "kind": "failed", "details": details}
                await cursor.execute(self._queries["insert_event"], event)
                await cursor.execute(self._queries["notify"], {"news": news.ended(row["id"])})
            return failed

        return await self._database.transaction(do)

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

        async def do(cursor: Cursor) -> Sequence[int]:
            found = await cursor.fetch(self._queries["read_retired"], {"retention": self._retention()})
            jobs = [row["id"] for row in found]
            if jobs:
                await cursor.execute(self._queries["forget_events"], {"jobs": jobs})
                told = [{"job": job, "file": None, "kind": "expired", "details": {}} for job in jobs]
                await cursor.execute(self._queries["insert_events"], {"events": Json(told)})
                await cursor.execute(self._queries["retire"], {"jobs": jobs})
                await cursor.execute(self._queries["forget_jobs"], {"jobs": jobs})
            await cursor.execute(self._queries["forget_old_events"], {"retention": self._retention()})
            return jobs

        await self._database.execute(self._queries["forget_audit"], {"retention": self._audited()})
        retired = 0
        while some := await self._database.transaction(do):
            retired += len(some)
        return retired
