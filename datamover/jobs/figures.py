"""The figures of the queue that are monitored, read at a bounded cost: no count exceeds ``MOST`` rows."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from psycopg2.errors import QueryCanceled

from datamover.errors import Unavailable
from datamover.jobs.endpoints import endpoint_key
from datamover.postgres.database import Cursor, Database, Row
from datamover.postgres.named_queries import QUERIES

MOST = 100_000
"""Rows that one count reads, at most; a figure of this value means so many or more."""
_PLACE = endpoint_key("")


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of the queue at one moment, over all processes."""

    jobs: Mapping[str, int]
    """Jobs that have not ended, by state."""
    pending: Mapping[str, int]
    """Placement groups that wait, by destination, without those of paused jobs; with those that wait for room."""
    age: Mapping[str, float]
    """Seconds since the submission of the oldest job with a group that waits, by destination."""
    without_room: Mapping[str, int]
    """Placement groups that wait for room, by destination."""
    active: Mapping[tuple[str, str], int]
    """Placement groups that engines work on, by destination and state."""
    held: frozenset[str]
    """Destinations that an administrator holds."""
    broken: frozenset[str]
    """Destinations whose breaker is open for all owners."""
    broken_hosts: int
    """Source endpoints whose breaker is open for at least one owner."""
    nodes: Mapping[str, int]
    """Processes that are alive, by role."""
    draining: int
    """Engines that take no new work."""


class FigureReader:
    """Reads the figures from the database."""

    def __init__(self, database: Database, lease: float) -> None:
        """``lease`` is the seconds without a heartbeat after which a process counts as gone."""
        self._database = database
        self._lease = lease

    async def read(self) -> Figures:
        """Return the figures; raises Unavailable while the database is away or takes more than 4 s to answer."""
        try:
            return await self._database.transaction(self._read)
        except QueryCanceled as error:
            raise Unavailable("the database takes too long to answer") from error

    async def reach(self) -> bool:
        """Return True; raises Unavailable while the database is away."""
        await self._database.read("SELECT 1")
        return True

    async def _read(self, cursor: Cursor) -> Figures:
        await cursor.execute(QUERIES["limit_time"])
        queue = await cursor.fetch(QUERIES["figure_queue"], {"most": MOST})
        rooms = await cursor.fetch(QUERIES["figure_rooms"], {"most": MOST})
        active = await cursor.fetch(QUERIES["figure_active"])
        jobs = await cursor.fetch(QUERIES["figure_jobs"], {"most": MOST})
        endpoints = await cursor.fetch(QUERIES["figure_endpoints"], {"most": MOST})
        nodes = await cursor.fetch(QUERIES["figure_nodes"], {"lease": self._lease})
        without_room = {row["destination"]: row["groups"] for row in rooms}
        closed = [str(row["name"]) for row in endpoints if row["closed"]]
        return Figures(
            jobs={row["state"]: row["jobs"] for row in jobs},
            pending=Counter({row["destination"]: row["pending"] for row in queue}) + Counter(without_room),
            age={
                row["destination"]: max(0.0, row["age"]) for row in sorted((*queue, *rooms), key=lambda row: row["age"])
            },
            without_room=without_room,
            active={(row["destination"], row["state"]): row["groups"] for row in active},
            held=_places([row for row in endpoints if row["held"]]),
            broken=_places([row for row in endpoints if row["closed"]]),
            broken_hosts=sum(not name.startswith(_PLACE) for name in closed),
            nodes=Counter(role for row in nodes for role in row["roles"]),
            draining=sum(row["draining"] and "engine" in row["roles"] for row in nodes),
        )


def _places(endpoints: list[Row]) -> frozenset[str]:
    return frozenset(row["name"].removeprefix(_PLACE) for row in endpoints if row["name"].startswith(_PLACE))
