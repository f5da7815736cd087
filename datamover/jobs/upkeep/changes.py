"""Changes of jobs, brought to their files: cancel, pause, resume, retry, deadlines.

The job's own row changes at once. Its files, of which there may be millions, follow a slice at a time, so that locks
are held briefly. The position is stored in the database, so any engine can continue a change. A job that the database
refuses to change is quarantined, and the others are done. Every method raises Unavailable while the database is away.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Any

from datamover.concurrency.loops import OnRefusal, log_refusal
from datamover.errors import DeadlineExceeded
from datamover.jobs import notifications
from datamover.jobs.history import EventDetail, finish_jobs, notify, write_events
from datamover.jobs.upkeep.quarantine import PerJobWork
from datamover.jobs.upkeep.slices import Slices
from datamover.jobs.work import Remark, error_column
from datamover.postgres.database import Cursor, Database, Json, Row
from datamover.postgres.named_queries import QUERIES

PATIENCE = 5.0
"""Seconds that the call which asked for a change continues it; then engines continue it."""
TOGETHER = 200
"""Jobs, at most, whose files one slice changes."""

_BEGINNINGS = ("forget_changes", "begin_overdue_again", "begin_overdue")
"""Queries that remove the changes of ended jobs, and begin those for jobs whose deadline has passed."""


@dataclass(frozen=True, slots=True)
class FileRange:
    """A range of a job's files, by index: from ``first`` to before ``last``."""

    job: int
    first: int
    last: int

    def where(self, **more: Any) -> dict[str, Any]:
        """Return the parameters that select the files, and ``more``."""
        return {"job": self.job, "first": self.first, "last": self.last, **more}


class JobChanges:
    """The changes of all jobs."""

    def __init__(
        self, database: Database, clock: Callable[[], float] = monotonic, refused: OnRefusal = log_refusal
    ) -> None:
        """``clock`` returns monotonic seconds."""
        self._database = database
        self._clock = clock
        self._by_job = PerJobWork("changes", refused, clock)
        self._slices = Slices(database, clock)

    async def follow(self, cursor: Cursor, job: int, detail: EventDetail = EventDetail.FULL) -> bool:
        """Begin to bring the job's state to its files; the first of them change in this transaction.

        The job must be locked. Returns whether there are more files, which ``complete`` changes.
        """
        await cursor.post(QUERIES["begin_change"], {"job": job, "follow": 0, "retry": None})
        return await self._go_on(cursor, [job], self._slices.size.rows, detail)

    async def retry(self, cursor: Cursor, job: int, files: int) -> bool:
        """Begin to put the failed ones of a job's ``files`` back in the queue; otherwise like ``follow``."""
        await cursor.post(QUERIES["begin_change"], {"job": job, "follow": None, "retry": files})
        return await self._go_on(cursor, [job], self._slices.size.rows)

    async def complete(self, job: int) -> None:
        """Continue a job's changes to their end, or for ``PATIENCE`` seconds."""

        async def do(cursor: Cursor, rows: int) -> bool:
            await cursor.post(QUERIES["lock_jobs"], {"jobs": [job]})
            return await self._go_on(cursor, [job], rows)

        ends = self._clock() + PATIENCE
        while await self._slices.run(do) and self._clock() < ends:
            pass

    async def carry_out(self, seconds: float) -> int:
        """Begin the changes of jobs whose deadline has passed, and continue all changes for ``seconds``.

        Returns the number of slices.
        """
        for query in _BEGINNINGS:
            await self._by_job.do(partial(self._begin, query), partial(self._chosen, query))
        ends, slices = self._clock() + seconds, 0
        while self._clock() < ends and await self._by_job.do(self._slice, self._changing):
            slices += 1
        return slices

    async def _begin(self, query: str, which: Mapping[str, Any], detail: EventDetail) -> dict[int, bool]:
        async def do(cursor: Cursor) -> list[Row]:
            await cursor.post(QUERIES["limit_slice"])
            return await cursor.fetch(QUERIES[query], which)

        return {row["job"]: True for row in await self._database.transaction(do)}

    async def _chosen(self, query: str, which: Mapping[str, Any]) -> Sequence[Row]:
        return await self._database.read(QUERIES[f"{query}.chosen"], which)

    async def _slice(self, which: Mapping[str, Any], detail: EventDetail) -> dict[int, bool]:
        """Change the next files of jobs; return the jobs."""
        jobs: list[int] = []

        async def do(cursor: Cursor, rows: int) -> bool:
            nonlocal jobs
            found = await cursor.fetch(QUERIES["lock_changing"], {**which, "jobs": TOGETHER})
            jobs = [row["id"] for row in found]
            return await self._go_on(cursor, jobs, rows, detail)

        await self._slices.run(do)
        return dict.fromkeys(jobs, True)

    async def _changing(self, which: Mapping[str, Any]) -> Sequence[Row]:
        return await self._database.read(QUERIES["lock_changing"], {**which, "jobs": TOGETHER})

    # One slice ------------------------------------------------------------------------------------------------

    async def _go_on(
        self, cursor: Cursor, jobs: Sequence[int], rows: int, detail: EventDetail = EventDetail.FULL
    ) -> bool:
        """Change the next ``rows`` files of locked jobs; return whether there are more."""
        left = rows
        for job in jobs:
            if left <= 0:
                break
            left -= await self._change(cursor, job, left, detail)
        await finish_jobs(cursor, jobs, detail)
        return left <= 0

    async def _change(self, cursor: Cursor, job: int, rows: int, detail: EventDetail) -> int:
        """Change a job's next ``rows`` files; return the number of files, or ``rows`` if some are left."""
        change = await cursor.fetch_one(QUERIES["read_change"], {"job": job})
        if change is None:
            return 0
        follow, retry = change["follow"], change["retry"]
        if retry is not None:
            # Backwards: a group's leader comes last, so that no engine claims it before its members are put back.
            some = FileRange(job, max(0, retry - rows), retry)
            await cursor.post(QUERIES["retry_failed"], some.where())
            await notify(cursor, notifications.WORK)
            retry = some.first or None
        else:
            some = FileRange(job, follow, min(follow + rows, change["files_total"]))
            await self._follow(cursor, some, change, detail)
            follow = some.last if some.last < change["files_total"] else None
        if follow is not None or retry is not None or change["begun_overdue"]:
            await cursor.post(QUERIES["note_change"], {"job": job, "follow": follow, "retry": retry})
        else:
            await cursor.post(QUERIES["end_change"], {"job": job})
        return some.last - some.first if follow is None and retry is None else rows

    async def _follow(self, cursor: Cursor, some: FileRange, job: Row, detail: EventDetail) -> None:
        """Bring the job's state to some of its files; running ones are stopped by the engines that work on them."""
        if job["ended"]:
            return
        if job["cancelled"] or (job["stopped"] and not job["overdue"]):
            await self._cancel(cursor, some, EventDetail.NONE if job["cancelled"] else detail)
        elif job["overdue"]:
            await self._fail(cursor, some, job["now"])
        else:
            await cursor.post(QUERIES["pause_transfers" if job["paused"] else "unpause_transfers"], some.where())
        await notify(cursor, notifications.STOP)
        await notify(cursor, notifications.WORK)

    async def _cancel(self, cursor: Cursor, some: FileRange, detail: EventDetail) -> None:
        waiting = await cursor.fetch(QUERIES["cancel_waiting"], some.where())
        await cursor.post(QUERIES["cancel_running"], some.where())
        if waiting:
            await cursor.post(QUERIES["count_cancelled"], {"job": some.job, "files": len(waiting)})
        await write_events(cursor, [(some.job, row["index"], Remark("cancelled")) for row in waiting], detail)

    async def _fail(self, cursor: Cursor, some: FileRange, now: datetime) -> None:
        error = Json(error_column(DeadlineExceeded("the job's deadline has passed"), attempt=0, at=now))
        files = await cursor.fetch(QUERIES["fail_waiting"], some.where(error=error))
        await cursor.post(QUERIES["unpause_transfers"], some.where())
        if files:
            await cursor.post(QUERIES["count_failed"], {"job": some.job, "files": len(files), "error": error})
