"""What is watched of the queue, read at a bounded cost: only what has not ended, and never over ``MOST`` rows."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from psycopg2.errors import QueryCanceled

from datamover.errors import Unavailable
from datamover.jobs.endpoints import endpoint_key
from datamover.postgres.database import Cursor, Database, Row
from datamover.postgres.named_queries import NamedQueries

MOST = 100_000
"""Rows that one count may touch; a figure that reads so much means so much or more."""
_PLACE = endpoint_key("")


@dataclass(frozen=True, slots=True)
class Figures:
    """The queue at one moment, over all processes."""

    jobs: Mapping[str, int]
    """By state; those that have not ended."""
    pending: Mapping[str, int]
    """Placement groups that wait, by destination; those of paused jobs left out."""
    age: Mapping[str, float]
    """Seconds since the oldest job of which something waits was submitted, by destination."""
    active: Mapping[tuple[str, str], int]
    """Placement groups that are worked on, by destination and state."""
    held: frozenset[str]
    """Destinations that an administrator holds."""
    broken: frozenset[str]
    """Destinations that are left alone by all, but for one transfer at a time."""
    broken_hosts: int
    """Servers of sources that are left alone by somebody, likewise."""
    nodes: Mapping[str, int]
    """Processes that are alive, by role."""
    draining: int
    """Engines that take nothing new."""


class FigureReader:
    """Reads them."""

    def __init__(self, database: Database, lease: float) -> None:
        """``lease``: seconds after which a process that says nothing counts as gone."""
        self._database = database
        self._lease = lease
        self._queries = NamedQueries.load()

    async def read(self) -> Figures:
        """Return the figures; raises Unavailable while the database is away, or takes seconds to answer."""
        try:
            return await self._database.transaction(self._read)
        except QueryCanceled as error:
            raise Unavailable("the database takes too long to answer") from error

    async def reach(self) -> bool:
        """Return True; raises Unavailable while the database is away."""
        await self._database.read("SELECT 1")
        return True

    async def _read(self, cursor: Cursor) -> Figures:
        await cursor.execute(self._queries["limit_time"])
        queue = await cursor.fetch(self._queries["figure_queue"], {"most": MOST})
        active = await cursor.fetch(self._queries["figure_active"])
        jobs = await cursor.fetch(self._queries["figure_jobs"], {"most": MOST})
        endpoints = await cursor.fetch(self._queries["figure_endpoints"], {"most": MOST})
        nodes = await cursor.fetch(self._queries["figure_nodes"], {"lease": self._lease})
        closed = [str(row["name"]) for row in endpoints if row["closed"]]
        return Figures(
            jobs={row["state"]: row["jobs"] for row in jobs},
            pending={row["destination"]: row["pending"] for row in queue},
            age={row["destination"]: max(0.0, row["age"]) for row in queue},
            active={(row["destination"], row["state"]): row["groups"] for row in active},
            held=_places([row for row in endpoints if row["held"]]),
            broken=_places([row for row in endpoints if row["closed"]]),
            broken_hosts=sum(not name.startswith(_PLACE) for name in closed),
            nodes=Counter(role for row in nodes for role in row["roles"]),
            draining=sum(row["draining"] and "engine" in row["roles"] for row in nodes),
        )


def _places(endpoints: list[Row]) -> frozenset[str]:
    return frozenset(row["name"].removeprefix(_PLACE) for row in endpoints if row["name"].startswith(_PLACE))
