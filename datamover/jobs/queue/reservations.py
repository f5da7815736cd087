"""Reservations of room at destinations, over all nodes, and the groups that wait for room.

A reservation is part of the transfer's row, and counts as long as the lease under which it was made: so it ends with
the attempt, however that ends. Whoever reserves locks the destination's row in ``rooms``. ``room`` has the rules. Every
method raises Unavailable while the database is away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from datamover.concurrency.batcher import Batch, bisect_batch
from datamover.jobs import notifications
from datamover.jobs.history import notify
from datamover.jobs.queue.room import (
    Key,
    Reserved,
    Room,
    RoomQueue,
    RoomRequest,
    Survey,
    Waiter,
    decide,
    room_of,
    to_wake,
)
from datamover.postgres.database import Cursor, Database, Row
from datamover.postgres.named_queries import NamedQueries

AT_ONCE = 256
"""Requests that one transaction decides, at most."""
WAKING = 1000
"""Groups that wait for one destination, of which those that fit are woken at a time."""

_QUERIES = NamedQueries.load()


class Reservations:
    """The reservations of one node."""

    def __init__(self, database: Database, node: str) -> None:
        self._database = database
        self._node = node
        self._requests: Batch[RoomRequest, int] = Batch(partial(bisect_batch, self._reserve), AT_ONCE)

    async def survey(self, destination: str) -> Survey:
        """Return what transfers to a destination have reserved, and how far they are; the place is yet to be asked."""
        found = await self._database.read(_QUERIES["read_reserved"], {"destination": destination})
        return Survey(
            None,
            max((row["given"] for row in found), default=0),
            [
                Reserved((row["id"], row["lease"]), row["room_from"], row["room_until"], row["bytes_done"])
                for row in found
                if row["id"] is not None
            ],
        )

    async def reserve(self, request: RoomRequest) -> int:
        """Return the bytes that were reserved, beyond ``base``; 0: there is no room, or the lease was lost."""
        return await self._requests.add(request)

    async def _reserve(self, requests: Sequence[RoomRequest]) -> Sequence[int]:
        names = sorted({request.destination for request in requests})

        async def do(cursor: Cursor) -> dict[Key, int]:
            await cursor.post(_QUERIES["begin_rooms"], {"destinations": names})
            locked = await cursor.fetch(_QUERIES["lock_rooms"], {"destinations": names})
            asking = {"destinations": names, "transfers": [request.transfer for request in requests]}
            order = await cursor.fetch(_QUERIES["read_room_order"], asking)
            given: dict[Key, int] = {}
            rooms: dict[str, Room] = {}
            for row in locked:
                name = row["destination"]
                here = [request for request in requests if request.destination == name]
                granted, rooms[name] = decide(here, _queue(row, order))
                given |= granted
            ours = await cursor.fetch(_QUERIES["reserve_room"], self._granted(requests, given))
            await cursor.post(_QUERIES["note_rooms"], _noted(rooms))
            return {key: given[key] for key in given if key[0] in {row["id"] for row in ours}}

        granted = await self._database.transaction(do)
        return [granted.get(request.key, 0) for request in requests]

    def _granted(self, requests: Sequence[RoomRequest], given: Mapping[Key, int]) -> dict[str, Any]:
        granted = [request for request in requests if request.key in given]
        return {
            "node": self._node,
            "transfers": [one.transfer for one in granted],
            "leases": [one.lease for one in granted],
            "starts": [one.start if one.counted else None for one in granted],
            "untils": [one.base + given[one.key] for one in granted],
            "dones": [one.start if one.counted and not one.running else None for one in granted],
        }

    # Waiting --------------------------------------------------------------------------------------------------

    async def due(self, seconds: float) -> list[str]:
        """Return the destinations to be asked for room for those that wait there; others ask after ``seconds``."""
        found = await self._database.read(_QUERIES["read_without_room"])
        if not found:
            return []
        parameters = {"destinations": [row["destination"] for row in found], "seconds": seconds}
        return [row["destination"] for row in await self._database.fetch(_QUERIES["take_room_turn"], parameters)]

    async def wake(self, destination: str, survey: Survey, keep: int) -> int:
        """Put those back in the queue that there is room for now; return their number."""

        async def do(cursor: Cursor) -> int:
            [row] = await cursor.fetch(_QUERIES["lock_rooms"], {"destinations": [destination]})
            waiters = await self._waiters(cursor, destination)
            longest = waiters[0].transfer if waiters else None
            room = replace(room_of(survey, keep, row["given"]), longest=row["longest"], passed=row["passed"])
            room = room.behind(longest)
            await cursor.post(_QUERIES["note_rooms"], _noted({destination: room}))
            return await _wake(cursor, to_wake(room, waiters))

        return await self._database.transaction(do)

    async def wake_first(self, destination: str, most: int = WAKING) -> int:
        """Put those that wait longest back in the queue, whatever room there is; return their number."""

        async def do(cursor: Cursor) -> int:
            parameters = {"destination": destination, "limit": most}
            woken = await cursor.fetch(_QUERIES["wake_first_for_room"], parameters)
            await notify(cursor, notifications.WORK)
            return len(woken)

        return await self._database.transaction(do)

    async def _waiters(self, cursor: Cursor, destination: str) -> list[Waiter]:
        parameters = {"destination": destination, "limit": WAKING}
        found = await cursor.fetch(_QUERIES["read_waiting_for_room"], parameters)
        return [Waiter(row["id"], row["room_wanted"], woken=not row["paused"]) for row in found]


async def _wake(cursor: Cursor, transfers: Sequence[int]) -> int:
    if transfers:
        await cursor.post(_QUERIES["wake_for_room"], {"transfers": transfers})
        await notify(cursor, notifications.WORK)
    return len(transfers)


def _queue(room: Row, order: Sequence[Row]) -> RoomQueue:
    """Return what rows of ``read_room_order`` tell of the destination of a row of ``rooms``."""
    longest = next((row["id"] for row in order if row["longest"] and row["destination"] == room["destination"]), None)
    return RoomQueue(
        room["given"],
        {row["id"]: row["room_since"] for row in order if row["room_since"] is not None},
        longest,
        room["passed"] if room["longest"] == longest else 0,
    )


def _noted(rooms: Mapping[str, Room]) -> dict[str, Any]:
    """Return the parameters of ``note_rooms``."""
    told = list(rooms.values())
    return {
        "destinations": list(rooms),
        "free": [room.free for room in told],
        "keep": [room.keep for room in told],
        "given": [room.given for room in told],
        "under_way": [room.under_way for room in told],
        "longest": [room.longest for room in told],
        "passed": [room.passed for room in told],
    }
