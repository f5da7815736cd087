"""Notices of jobs' ends, as an engine sends them: claim, and write what came of it.

They fall due in the statement that ends a job. A claim is relied upon until the time that it puts the next attempt off
to; every later statement names its number, so that who comes too late changes nothing. Every method raises Unavailable
while the database is away. Sending them is the business of ``datamover.engine.notifier``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from datamover.errors import DataMoverError
from datamover.jobs import rows
from datamover.jobs.database import Cursor, Database, Json
from datamover.jobs.history import tell
from datamover.jobs.sql import Queries
from datamover.jobs.values import Notice
from datamover.jobs.work import Remark

LEASE = 30.0
"""Seconds; longer than an attempt may take."""
TOLD_ALL = 10
TOLD_EVERY = 100
"""The first ten failures are told in the history, then one in a hundred: a receiver may be gone for good."""


class Notices:
    """The notices of the whole database."""

    def __init__(self, database: Database, cipher: rows.Seal, lease: float = LEASE) -> None:
        """``lease``: seconds until a claimed notice that nobody wrote anything of is anybody's again."""
        self._database = database
        self._cipher = cipher
        self._lease = lease
        self._queries = Queries.load()

    async def claim(self, room: int, per_host: int, busy: Mapping[str, int]) -> list[Notice]:
        """Take at most ``room`` due notices; those to one host, with what is ``busy`` there, at most ``per_host``."""
        parameters = {
            "room": room,
            "per_host": per_host,
            "busy": list(busy),
            "counts": list(busy.values()),
            "lease": self._lease,
        }
        found = await self._database.fetch(self._queries["claim_notices"], parameters)
        return [rows.notice(row, self._cipher) for row in found]

    async def delivered(self, notice: Notice) -> None:
        """Write that a notice was acknowledged."""

        async def do(cursor: Cursor) -> None:
            if await cursor.fetch(self._queries["deliver_notice"], _fence(notice)):
                await self._tell(cursor, notice, "notified", {})

        await self._database.transaction(do)

    async def put_off(self, notice: Notice, error: DataMoverError, pause: float) -> None:
        """Write that a notice was not acknowledged, and will be sent again after ``pause`` seconds."""
        told = {"code": error.code, "message": error.message}

        async def do(cursor: Cursor) -> None:
            parameters = {**_fence(notice), "pause": pause, "error": Json(told)}
            found = await cursor.fetch(self._queries["put_off_notice"], parameters)
            if found and (notice.attempt <= TOLD_ALL or notice.attempt % TOLD_EVERY == 0):
                at = found[0]["next_attempt_at"].strftime("%Y-%m-%dT%H:%M:%SZ")
                await self._tell(cursor, notice, "notify_failed", {"error": told, "next_retry_at": at})

        await self._database.transaction(do)

    async def release(self, notices: Sequence[Notice]) -> None:
        """Hand back notices at once."""
        parameters = {"jobs": [one.job for one in notices], "leases": [one.lease for one in notices]}
        await self._database.execute(self._queries["release_notices"], parameters)

    async def _tell(self, cursor: Cursor, notice: Notice, kind: str, details: Mapping[str, Any]) -> None:
        await tell(cursor, [(notice.job, None, Remark(kind, {"attempt": notice.attempt, **details}))])


def _fence(notice: Notice) -> dict[str, Any]:
    return {"job": notice.job, "lease": notice.lease}
