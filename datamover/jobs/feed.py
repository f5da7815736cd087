"""The history, in an order that readers can keep their place in.

Numbers are given out in one order, transactions are committed in another. So a reader first learns up to where nothing
can come any more (the *horizon*), from the writers that run in this database, and is served up to there: a cursor that
it keeps never passes over an event. Transactions that do not write to the history are not waited for, wherever they
run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from datamover.concurrency.batcher import Batch
from datamover.postgres.database import Database, Row
from datamover.postgres.named_queries import NamedQueries

TOGETHER = 1000
"""Readers that ask for the horizon together, at most."""

_QUERIES = NamedQueries.load()


class Feed:
    """One table that only grows, read by ``reading``, up to what ``horizon`` tells: names of queries."""

    def __init__(self, database: Database, horizon: str, reading: str) -> None:
        self._database = database
        self._horizon = _QUERIES[horizon]
        self._reading = _QUERIES[reading]
        self._looking: Batch[None, int] = Batch(self._look, TOGETHER)

    async def horizon(self) -> int:
        """Return the cursor up to which all can be read. Raises Unavailable."""
        return await self._looking.add(None)

    async def read(self, parameters: Mapping[str, Any]) -> list[Row]:
        """Return rows after a cursor, as ``parameters`` ask for them. Raises Unavailable."""
        return (await self.read_on(parameters))[0]

    async def read_on(self, parameters: Mapping[str, Any]) -> tuple[list[Row], int]:
        """Return these rows, and the cursor up to which was looked."""
        # Two statements, one after the other: what the first saw as ended, the second sees.
        horizon = await self.horizon()
        return await self._database.read(self._reading, {**parameters, "horizon": horizon}), horizon

    async def _look(self, readers: Sequence[None]) -> list[int]:
        """Look once for all who ask by now."""
        found = await self._database.read(self._horizon)
        return [found[0]["cursor"]] * len(readers)
