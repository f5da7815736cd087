"""The end of old jobs: their rows go a slice at a time, until only (id, owner) is left.

From the first slice on a job is told as expired, whole, however long it takes: ``retiring`` names those whose rows are
still going. A slice has so many rows, of many small jobs or of one of millions of files. It holds nothing that anybody
else needs, and one process at a time does it.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

from datamover.jobs.database import Cursor, Database
from datamover.jobs.slices import Slices
from datamover.jobs.sql import Queries

ROWS_OF_ONE = 5
"""Rows that a small job has, about: a file, three events, itself."""

_QUERIES = Queries.load()
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Retirement:
    """Of all jobs of a database."""

    def __init__(
        self,
        database: Database,
        retention: Callable[[], float],
        audited: Callable[[], float],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """``retention`` and ``audited`` tell the seconds that ended jobs, and deeds, are kept."""
        self._retention = retention
        self._audited = audited
        self._slices = Slices(database, clock)
        self._looked_at = _LONG_AGO
        """When the last old event was that has been looked at: those before it need not be again."""
        self._gone = 0
        self.retired = 0
        """Jobs of which nothing but their owner is left since then."""

    async def go_on(self) -> bool:
        """Do one slice; tell whether there are more now. Raises Unavailable."""
        for work in (self._remove, self._begin, self._forget_expired, self._forget_audit):
            self._gone = 0
            more = await self._slices.run(work)
            self.retired += self._gone
            if more:
                return True
        return False

    async def _remove(self, cursor: Cursor, rows: int) -> bool:
        """Remove rows of jobs that have been begun; whole jobs, as far as that goes."""
        if not await self._ours(cursor):
            return False
        found = await cursor.fetch(_QUERIES["read_retiring"], {"jobs": max(1, rows // ROWS_OF_ONE)})
        jobs = [row["job"] for row in found]
        if not jobs:
            return False
        where = {"jobs": jobs, "events": [row["event"] for row in found], "files": [row["file"] for row in found]}
        left = rows
        for query in ("retire_events", "retire_files"):
            gone = await cursor.fetch_one(_QUERIES[query], {**where, "rows": left})
            left -= gone["rows"] if gone else 0
            if left <= 0:
                return True
        await cursor.post(_QUERIES["lift_limit"])
        await cursor.post(_QUERIES["retire_jobs"], {"jobs": jobs})
        self._gone = len(jobs)
        return True

    async def _begin(self, cursor: Cursor, rows: int) -> bool:
        """Have more jobs told as expired."""
        if not await self._ours(cursor):
            return False
        wanted = {"retention": self._retention(), "jobs": max(1, rows // ROWS_OF_ONE)}
        return bool(await cursor.fetch(_QUERIES["begin_retiring"], wanted))

    async def _forget_expired(self, cursor: Cursor, rows: int) -> bool:
        """Remove what tells that a job has expired, where that is as long ago again."""
        await cursor.post(_QUERIES["lift_limit"])
        where = {"retention": self._retention(), "after": self._looked_at, "rows": rows}
        found = await cursor.fetch_one(_QUERIES["forget_expired"], where)
        assert found is not None
        self._looked_at = found["at"] or self._looked_at
        return bool(found["rows"] == rows)

    async def _forget_audit(self, cursor: Cursor, rows: int) -> bool:
        found = await cursor.fetch_one(_QUERIES["forget_audit"], {"retention": self._audited(), "rows": rows})
        return found is not None and found["rows"] == rows

    async def _ours(self, cursor: Cursor) -> bool:
        found = await cursor.fetch_one(_QUERIES["try_retiring"])
        return found is not None and bool(found["ours"])
