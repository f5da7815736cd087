"""Removing old jobs: their rows are deleted a slice at a time, until only (id, owner) is left.

From the first slice on, the whole job counts as expired, however long the rest takes: the table ``retiring`` has the
jobs whose rows are being deleted. A slice is a number of rows, of many small jobs or of one with millions of files. It
locks nothing that others need, and one process at a time does it. A job that the database refuses to change is
quarantined, and the others are removed.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from datamover.concurrency.loops import OnRefusal, log_refusal
from datamover.jobs.history import EventDetail
from datamover.jobs.upkeep.quarantine import PerJobWork
from datamover.jobs.upkeep.slices import Slices
from datamover.postgres.database import Cursor, Database, Row
from datamover.postgres.named_queries import QUERIES

ROWS_OF_ONE = 5
"""The approximate number of rows of a small job: a file, three events, the job itself."""

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Retirement:
    """The retirement of all old jobs."""

    def __init__(
        self,
        database: Database,
        retention: Callable[[], float],
        audited: Callable[[], float],
        clock: Callable[[], float] = monotonic,
        refused: OnRefusal = log_refusal,
    ) -> None:
        """``retention`` and ``audited`` return the seconds for which ended jobs, and audit events, are kept."""
        self._database = database
        self._retention = retention
        self._audited = audited
        self._slices = Slices(database, clock)
        self._removing, self._beginning = (PerJobWork("retirement", refused, clock) for _ in range(2))
        self._looked_at = _LONG_AGO
        """The time of the last old event that was examined; earlier ones need not be examined again."""
        self.retired = 0
        """The number of jobs that were removed."""

    async def go_on(self) -> bool:
        """Do one slice; return whether there are more now. Raises Unavailable."""
        if await self._removing.do(self._remove, self._retiring) or await self._beginning.do(self._begin, self._old):
            return True
        return await self._slices.run(self._forget_expired) or await self._slices.run(self._forget_audit)

    @property
    def _jobs(self) -> int:
        """The number of jobs of a slice, at most."""
        return max(1, self._slices.size.rows // ROWS_OF_ONE)

    async def _remove(self, which: Mapping[str, Any], detail: EventDetail) -> dict[int, bool]:
        """Delete rows of retiring jobs, and the jobs whose last rows these are; return the jobs."""
        jobs: list[int] = []
        gone = 0

        async def do(cursor: Cursor, rows: int) -> bool:
            nonlocal jobs, gone
            jobs, gone = [], 0
            if not await self._ours(cursor):
                return False
            found = await cursor.fetch(QUERIES["read_retiring"], {**which, "jobs": self._jobs})
            jobs = [row["id"] for row in found]
            if not jobs:
                return False
            where = {"jobs": jobs, "events": [row["event"] for row in found], "files": [row["file"] for row in found]}
            left = rows
            for query in ("retire_events", "retire_files"):
                removed = await cursor.fetch_one(QUERIES[query], {**where, "rows": left})
                left -= removed["rows"] if removed else 0
                if left <= 0:
                    return True
            await cursor.post(QUERIES["lift_limit"])
            await cursor.post(QUERIES["retire_jobs"], {"jobs": jobs})
            gone = len(jobs)
            return True

        await self._slices.run(do)
        self.retired += gone
        return dict.fromkeys(jobs, True)

    async def _retiring(self, which: Mapping[str, Any]) -> Sequence[Row]:
        return await self._database.read(QUERIES["read_retiring"], {**which, "jobs": self._jobs})

    async def _begin(self, which: Mapping[str, Any], detail: EventDetail) -> dict[int, bool]:
        """Begin to retire more jobs, which count as expired from now on; return them."""
        found: list[Row] = []

        async def do(cursor: Cursor, rows: int) -> bool:
            nonlocal found
            wanted = {**which, **self._old_enough, "told": detail is not EventDetail.NONE}
            found = await cursor.fetch(QUERIES["begin_retiring"], wanted) if await self._ours(cursor) else []
            return bool(found)

        await self._slices.run(do)
        return {row["id"]: True for row in found}

    async def _old(self, which: Mapping[str, Any]) -> Sequence[Row]:
        return await self._database.read(QUERIES["begin_retiring.chosen"], {**which, **self._old_enough})

    @property
    def _old_enough(self) -> dict[str, Any]:
        return {"retention": self._retention(), "jobs": self._jobs}

    async def _forget_expired(self, cursor: Cursor, rows: int) -> bool:
        """Delete the events of jobs that expired longer than the retention ago."""
        await cursor.post(QUERIES["lift_limit"])
        where = {"retention": self._retention(), "after": self._looked_at, "rows": rows}
        found = await cursor.fetch_one(QUERIES["forget_expired"], where)
        assert found is not None
        self._looked_at = found["at"] or self._looked_at
        return bool(found["rows"] == rows)

    async def _forget_audit(self, cursor: Cursor, rows: int) -> bool:
        found = await cursor.fetch_one(QUERIES["forget_audit"], {"retention": self._audited(), "rows": rows})
        return found is not None and found["rows"] == rows

    async def _ours(self, cursor: Cursor) -> bool:
        found = await cursor.fetch_one(QUERIES["try_retiring"])
        return found is not None and bool(found["ours"])
