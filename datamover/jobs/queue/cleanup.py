"""Cleaning up ended groups that left something: the destination was away, or a process that had lost its lease went on.

Every method raises Unavailable while the database is away.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from datamover.concurrency.batcher import away
from datamover.concurrency.loops import OnRefusal, log_refusal
from datamover.errors import NotNow
from datamover.jobs import rows, work
from datamover.jobs.queue.claims import members
from datamover.jobs.upkeep.quarantine import Quarantine
from datamover.jobs.values import Transfer
from datamover.jobs.work import Group
from datamover.postgres.database import Cursor, Database, Row
from datamover.postgres.named_queries import QUERIES


class OrphanCleanup:
    """Hands out ended groups with leftovers, one at a time."""

    def __init__(self, database: Database, cipher: rows.Seal, *, refused: OnRefusal = log_refusal) -> None:
        self._database = database
        self._cipher = cipher
        self._refused = refused
        self._quarantine = Quarantine(time.monotonic)

    @property
    def seconds(self) -> float:
        """The seconds for which a group that was taken is not given to others."""
        return work.SWEEPING

    async def take(self, destinations: Collection[str]) -> Group | None:
        """Take a group to clean up, for ``seconds``; None: none is due.

        A group that cannot be taken or read is quarantined.
        """
        while True:
            parameters = {
                "destinations": list(destinations),
                "seconds": self.seconds,
                "passed_over": self._quarantine.ids,
            }
            try:
                return await self._database.transaction(partial(self._take, parameters))
            except CancelledError:
                raise
            except Exception as error:
                failure = Failure()  # type: ignore[no-untyped-call]
                if away(failure):
                    raise
                chosen = await self._database.read(QUERIES["claim_leftovers.chosen"], parameters)
                if not chosen:
                    raise
                self._quarantine.add(chosen[0]["id"])
                if not isinstance(error, NotNow):
                    self._refused("sweeping", f"the cleanup of transfer {chosen[0]['id']}", failure)

    async def _take(self, parameters: Mapping[str, Any], cursor: Cursor) -> Group | None:
        found = await cursor.fetch_one(QUERIES["claim_leftovers"], parameters)
        if found is None:
            return None
        leader = self._transfer(found)
        others = await members(cursor, found) if leader.staged else []
        return Group((leader, *map(self._transfer, others)))

    async def late(self, leaders: Sequence[Transfer]) -> None:
        """Have groups cleaned up, once they have ended, in which this process wrote under leases that it had lost."""
        lost = {"transfers": [one.id for one in leaders], "leases": [one.lease for one in leaders]}
        await self._database.execute(QUERIES["note_late"], lost)

    async def done(self, leader: Transfer) -> None:
        """Write that a group has no leftovers; one that had a late process is taken once more after ``seconds``."""
        await self._database.execute(QUERIES["settle_leftovers"], {"transfer": leader.id, "lease": leader.lease})

    def _transfer(self, row: Row) -> Transfer:
        """Return a row's transfer. If its URL cannot be opened any more, the masked one will do: it is not read."""
        try:
            return rows.transfer(row, self._cipher)
        except rows.NoKey:
            return rows.transfer({**row, "source_sealed": None}, self._cipher)
