"""The end of old jobs: their rows go a slice at a time, until only (id, owner) is left.

From the first slice on a job is told as expired, whole, however long it takes: ``retiring`` names those whose rows are
still going. A slice has so many rows, of many small jobs or of one of millions of files. It holds nothing that anybody
else needs, and one process at a time does it. What the database refuses of one job is left for a while, and the others
go.
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
from datamover.postgres.named_queries import NamedQueries

ROWS_OF_ONE = 5
"""Rows that a small job has, about: a file, three events, itself."""

_QUERIES = NamedQueries.load()
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Retirement:
    """Of all jobs of a database."""

    def __init__(
        self,
        database: Database,
        retention: Callable[[], float],
        audited: Callable[[], float],
        clock: Callable[[], float] = monotonic,
        refused: OnRefusal = log_refusal,
    ) -> None:
        """``retention`` and ``audited`` tell the seconds that ended jobs, and deeds, are kept."""
        self._database = database
        self._retention = retention
        self._audited = audited
        self._slices = Slices(database, clock)
        self._removing, self._beginning = (PerJobWork("retirement", refused, clock) for _ in range(2))
        self._looked_at = _LONG_AGO
        """When the last old event was that has been looked at: those before it need not be again."""
        self.retired = 0
        """Jobs of which nothing but their owner is left since then."""

    async def go_on(self) -> bool:
        """Do one slice; tell whether there are more now. Raises Unavailable."""
        if await self._removing.do(self._remove, self._retiring) or await self._beginning.do(self._begin, self._old):
            return True
        return await self._slices.run(self._forget_expired) or await self._slices.run(self._forget_audit)

    @property
    def _jobs(self) -> int:
        """How many jobs a slice may be of."""
        return max(1, self._slices.pace.rows // ROWS_OF_ONE)

    async def _remove(self, which: Mapping[str, Any], detail: EventDetail) -> dict[int, bool]:
        """Remove rows of jobs that have been begun; whole jobs, as far as that goes. Return the jobs."""
        jobs: list[int] = []
        gone = 0

        async def do(cursor: Cursor, rows: int) -> bool:
            nonlocal jobs, gone
            jobs, gone = [], 0
            if not await self._ours(cursor):
                return False
            found = await cursor.fetch(_QUERIES["read_retiring"], {**which, "jobs": self._jobs})
            jobs = [row["id"] for row in found]
            if not jobs:
                return False
            where = {"jobs": jobs, "events": [row["event"] for row in found], "files": [row["file"] for row in found]}
            left = rows
            for query in ("retire_events", "retire_files"):
                removed = await cursor.fetch_one(_QUERIES[query], {**where, "rows": left})
                left -= removed["rows"] if removed else 0
                if left <= 0:
                    return True
            await cursor.post(_QUERIES["lift_limit"])
            await cursor.post(_QUERIES["retire_jobs"], {"jobs": jobs})
            gone = len(jobs)
            return True

        await self._slices.run(do)
        self.retired += gone
        return dict.fromkeys(jobs, True)

    async def _retiring(self, which: Mapping[str, Any]) -> Sequence[Row]:
        return await self._database.read(_QUERIES["read_retiring"], {**which, "jobs": self._jobs})

    async def _begin(self, which: Mapping[str, Any], detail: EventDetail) -> dict[int, bool]:
        """Have more jobs told as expired; return them."""
        found: list[Row] = []

        async def do(cursor: Cursor, rows: int) -> bool:
            nonlocal found
            wanted = {**which, **self._old_enough, "told": detail is not EventDetail.NONE}
            found = await cursor.fetch(_QUERIES["begin_retiring"], wanted) if await self._ours(cursor) else []
            return bool(found)

        await self._slices.run(do)
        return {row["id"]: True for row in found}

    async def _old(self, which: Mapping[str, Any]) -> Sequence[Row]:
        return await self._database.read(_QUERIES["begin_retiring.chosen"], {**which, **self._old_enough})

    @property
    def _old_enough(self) -> dict[str, Any]:
        return {"retention": self._retention(), "jobs": self._jobs}

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
