"""What any engine does for all jobs, now and then: changes under way, deadlines, old histories, a clock set back.

Harmless when several do it at once. What the database refuses of one job is left for a while, and the others' is done.
Every method raises Unavailable while the database is away.
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
"""Seconds that a call stays with long work, and leaves the rest to the next."""


class Upkeep:
    """For the whole database."""

    def __init__(
        self,
        database: Database,
        retention: Callable[[], float] = lambda: 90 * DAY,
        audited: Callable[[], float] = lambda: 365 * DAY,
        *,
        refused: OnRefusal = log_refusal,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``retention`` tells the seconds that a job which has ended stays readable, ``audited`` those of a deed."""
        self._changes = JobChanges(database, monotonic, refused)
        self._setbacks = Setbacks(database, monotonic, refused)
        self._retirement = Retirement(database, retention, audited, monotonic, refused)

    async def mend_clock(self) -> int:
        """Bring forward what is due, where the database's clock was set back; return nought where it was not."""
        return await self._setbacks.notice() + await self._setbacks.go_on(TURN)

    async def carry_out(self) -> int:
        """End what waits in jobs whose deadline has passed, and go on with what was asked of large jobs.

        What runs is ended by who holds it. Returns nought where there was nothing to do.
        """
        return await self._changes.carry_out(TURN)

    async def retire_some(self) -> int:
        """Forget a slice of what ended longer ago than the retention; return nought where nothing is left of it."""
        return int(await self._retirement.go_on())

    async def retire(self) -> int:
        """Forget all jobs that ended longer ago than the retention, but for their owner; return how many.

        Old deeds are forgotten with them.
        """
        before = self._retirement.retired
        while await self._retirement.go_on():
            pass
        return self._retirement.retired - before
