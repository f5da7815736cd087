"""Groups that have ended, of which something is left at a destination that was away then: who sweeps it, and when.

Every method raises Unavailable while the database is away.
"""

import time
from collections.abc import Callable, Collection, Mapping
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
from datamover.postgres.named_queries import NamedQueries

_QUERIES = NamedQueries.load()


class OrphanCleanup:
    """Of the whole database."""

    def __init__(
        self,
        database: Database,
        cipher: rows.Seal,
        *,
        refused: OnRefusal = log_refusal,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._cipher = cipher
        self._refused = refused
        self._aside = Quarantine(monotonic)

    @property
    def seconds(self) -> float:
        """How long a group is its taker's."""
        return work.SWEEPING

    async def take(self, destinations: Collection[str]) -> Group | None:
        """Take a group to sweep, for ``seconds``; None: there is none, or it is not its time.

        One that cannot be taken, or be read, is passed over for a while.
        """
        while True:
            parameters = {"destinations": list(destinations), "seconds": self.seconds, "passed_over": self._aside.ids}
            try:
                return await self._database.transaction(partial(self._take, parameters))
            except CancelledError:
                raise
            except Exception as error:
                failure = Failure()  # type: ignore[no-untyped-call]
                if away(failure):
                    raise
                chosen = await self._database.read(_QUERIES["claim_left.chosen"], parameters)
                if not chosen:
                    raise
                self._aside.put(chosen[0]["id"])
                if not isinstance(error, NotNow):
                    self._refused("sweeping", f"what is left of transfer {chosen[0]['id']}", failure)

    async def _take(self, parameters: Mapping[str, Any], cursor: Cursor) -> Group | None:
        found = await cursor.fetch_one(_QUERIES["claim_left"], parameters)
        if found is None:
            return None
        leader = self._transfer(found)
        others = await members(cursor, found) if leader.staged else []
        return Group((leader, *map(self._transfer, others)))

    async def done(self, leader: Transfer) -> None:
        """Write that nothing is left of a group."""
        await self._database.execute(_QUERIES["settle_left"], {"transfer": leader.id, "lease": leader.lease})

    def _transfer(self, row: Row) -> Transfer:
        """Return what a row says; of a source that cannot be opened any more, which is not read, what may be shown."""
        try:
            return rows.transfer(row, self._cipher)
        except rows.NoKey:
            return rows.transfer({**row, "source_sealed": None}, self._cipher)
