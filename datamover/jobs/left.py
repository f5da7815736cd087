"""Groups that have ended, of which something is left at a destination that was away then: who sweeps it, and when.

Every method raises Unavailable while the database is away.
"""

from collections.abc import Collection

from datamover.jobs import rows, work
from datamover.jobs.database import Cursor, Database
from datamover.jobs.sql import Queries
from datamover.jobs.values import Transfer
from datamover.jobs.work import Group

_QUERIES = Queries.load()


class Left:
    """Of the whole database."""

    def __init__(self, database: Database, cipher: rows.Seal) -> None:
        self._database = database
        self._cipher = cipher

    @property
    def seconds(self) -> float:
        """How long a group is its taker's."""
        return work.SWEEPING

    async def take(self, destinations: Collection[str]) -> Group | None:
        """Take a group to sweep, for ``seconds``; None: there is none, or it is not its time."""

        async def do(cursor: Cursor) -> Group | None:
            parameters = {"destinations": list(destinations), "seconds": self.seconds}
            found = await cursor.fetch_one(_QUERIES["claim_left"], parameters)
            return await whole(cursor, rows.transfer(found, self._cipher), self._cipher) if found else None

        return await self._database.transaction(do)

    async def done(self, leader: Transfer) -> None:
        """Write that nothing is left of a group."""
        await self._database.execute(_QUERIES["settle_left"], {"transfer": leader.id, "lease": leader.lease})


async def whole(cursor: Cursor, leader: Transfer, cipher: rows.Seal) -> Group:
    """Return the group that a transfer leads."""
    if not leader.staged:
        return Group((leader,))
    found = await cursor.fetch(_QUERIES["read_members"], {"job": leader.job, "leader": leader.index})
    return Group((leader, *(rows.transfer(row, cipher) for row in found if row["index"] != leader.index)))
