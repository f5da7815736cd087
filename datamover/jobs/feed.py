"""Reading an append-only table by a cursor that never misses a row.

Serial numbers are given out in one order and transactions commit in another: a row with a smaller number may become
visible after one with a greater number. So readers are served only up to the *horizon*, the number before which no
running writer can commit any more. Transactions that do not write to the table do not hold the horizon back.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from datamover.concurrency.batcher import Batch
from datamover.postgres.database import Database, Row
from datamover.postgres.named_queries import QUERIES

TOGETHER = 1000
"""Readers that share one look at the horizon, at most."""


class Feed:
    """One append-only table; ``horizon`` and ``reading`` name the queries that read its horizon and its rows."""

    def __init__(self, database: Database, horizon: str, reading: str) -> None:
        self._database = database
        self._horizon = QUERIES[horizon]
        self._reading = QUERIES[reading]
        self._looking: Batch[None, int] = Batch(self._look, TOGETHER)

    async def horizon(self) -> int:
        """Return the cursor up to which all rows are final. Raises Unavailable."""
        return await self._looking.add(None)

    async def read(self, parameters: Mapping[str, Any]) -> list[Row]:
        """Return the rows that ``parameters`` select, up to the horizon. Raises Unavailable."""
        return (await self.read_on(parameters))[0]

    async def read_on(self, parameters: Mapping[str, Any]) -> tuple[list[Row], int]:
        """Return the rows like ``read``, and the horizon up to which they were read."""
        # Two statements: the second sees the rows of all writers that the first saw as ended.
        horizon = await self.horizon()
        return await self._database.read(self._reading, {**parameters, "horizon": horizon}), horizon

    async def _look(self, readers: Sequence[None]) -> list[int]:
        """Read the horizon once, for all readers that ask by now."""
        found = await self._database.read(self._horizon)
        return [found[0]["cursor"]] * len(readers)
