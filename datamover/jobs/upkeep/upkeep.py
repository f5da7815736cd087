"""The upkeep of all jobs: changes under way, deadlines, retirement, and a database clock that was set back.

Several engines may do it at the same time. A job that the database refuses to change is quarantined, and the others are
done. Every method raises Unavailable while the database is away.
"""

import time
from collections.abc import Callable

from datamover.concurrency.loops import OnRefusal, log_refusal
from datamover.jobs.upkeep.changes import JobChanges
from datamover.jobs.upkeep.retirement import Retirement
from datamover.jobs.upkeep.setbacks import Setbacks
from datamover.postgres.database import Database

DAY = 86_400.0
TURN = 1.0
"""Seconds after which a call leaves the rest of long work to the next one."""


class Upkeep:
    """The upkeep of the whole database."""

    def __init__(
        self,
        database: Database,
        retention: Callable[[], float] = lambda: 90 * DAY,
        audited: Callable[[], float] = lambda: 365 * DAY,
        *,
        refused: OnRefusal = log_refusal,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``retention`` returns the seconds for which ended jobs are kept, ``audited`` those for audit events."""
        self._changes = JobChanges(database, monotonic, refused)
        self._setbacks = Setbacks(database, monotonic, refused)
        self._retirement = Retirement(database, retention, audited, monotonic, refused)

    async def mend_clock(self) -> int:
        """Correct due times if the database's clock was set back; return 0 if there was nothing to do."""
        return await self._setbacks.notice() + await self._setbacks.go_on(TURN)

    async def carry_out(self) -> int:
        """Fail the waiting files of jobs whose deadline has passed, and continue the changes of large jobs.

        Running transfers are ended by the engines that hold them. Returns 0 if there was nothing to do.
        """
        return await self._changes.carry_out(TURN)

    async def retire_some(self) -> int:
        """Remove a slice of the jobs that ended longer ago than the retention; return 0 if none is left."""
        return int(await self._retirement.go_on())

    async def retire(self) -> int:
        """Remove all jobs that ended longer ago than the retention, except for their owners; return their number.

        Old audit events are removed with them.
        """
        before = self._retirement.retired
        while await self._retirement.go_on():
            pass
        return self._retirement.retired - before
