"""Reservations of room at destinations, over all nodes, and the groups that wait for room.

A reservation is part of the transfer's row and is valid as long as the lease under which it was made, so it ends with
the attempt, in whatever way that ends. Reserving locks the destination's row in ``rooms``. ``room`` has the rules.
Every method raises Unavailable while the database is away.
"""

from collections.abc import Collection, Mapping, Sequence
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
from datamover.postgres.named_queries import QUERIES

AT_ONCE = 256
"""Requests that one transaction decides, at most."""
WAKING = 1000
"""Groups that wait for one destination and are considered at a time."""


class Reservations:
    """The reservations of one node."""

    def __init__(self, database: Database, node: str) -> None:
        self._database = database
        self._node = node
        self._requests: Batch[RoomRequest, int] = Batch(partial(bisect_batch, self._reserve), AT_ONCE)

    async def survey(self, destinations: Sequence[str]) -> Survey:
        """Return the reservations and the progress of transfers to destinations that share their room.

        The free space is not part of it yet; the destination is asked afterwards.
        """
        found = await self._database.read(QUERIES["read_reserved"], {"destinations": list(destinations)})
        return Survey(
            None,
            sum({row["destination"]: row["given"] for row in found}.values()),
            [
                Reserved((row["id"], row["lease"]), row["room_from"], row["room_until"], row["bytes_done"])
                for row in found
                if row["id"] is not None
            ],
            tuple(destinations),
        )

    async def reserve(self, request: RoomRequest) -> int:
        """Return the bytes that were reserved, beyond ``base``; 0: there is no room, or the lease was lost."""
        return await self._requests.add(request)

    async def _reserve(self, requests: Sequence[RoomRequest]) -> Sequence[int]:
        names = sorted({name for request in requests for name in request.survey.beside})

        async def do(cursor: Cursor) -> dict[Key, int]:
            await cursor.post(QUERIES["begin_rooms"], {"destinations": names})
            locked = await cursor.fetch(QUERIES["lock_rooms"], {"destinations": names})
            asking = {"destinations": names, "transfers": [request.transfer for request in requests]}
            order = await cursor.fetch(QUERIES["read_room_order"], asking)
            known = _Known({row["destination"]: row for row in locked}, order)
            given: dict[Key, int] = {}
            rooms: dict[str, Room] = {}
            for beside in sorted({request.survey.beside for request in requests}):
                here = [request for request in requests if request.survey.beside == beside]
                granted, room = decide(here, known.queue(beside))
                given |= granted
                rooms |= known.given(here, granted, room)
            ours = await cursor.fetch(QUERIES["reserve_room"], self._granted(requests, given))
            await cursor.post(QUERIES["note_rooms"], _noted(rooms))
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
        """Return the destinations to ask for room, where transfers wait; no process asks them again for ``seconds``."""
        found = await self._database.read(QUERIES["read_without_room"])
        if not found:
            return []
        parameters = {"destinations": [row["destination"] for row in found], "seconds": seconds}
        return [row["destination"] for row in await self._database.fetch(QUERIES["take_room_turn"], parameters)]

    async def wake(self, destination: str, survey: Survey, keep: int) -> int:
        """Put the transfers for which there is room now back in the queue; return their number."""
        names = list(survey.beside)

        async def do(cursor: Cursor) -> int:
            locked = await cursor.fetch(QUERIES["lock_rooms"], {"destinations": names})
            order = await cursor.fetch(QUERIES["read_room_order"], {"destinations": names, "transfers": []})
            rows = {row["destination"]: row for row in locked}
            first = {"destination": destination, "limit": WAKING}
            waiters = [
                Waiter(row["id"], row["room_wanted"], woken=not row["paused"])
                for row in await cursor.fetch(QUERIES["read_waiting_for_room"], first)
            ]
            queue = _Known(rows, order).queue(survey.beside)
            room = replace(room_of(survey, keep, queue.given), longest=queue.longest, passed=queue.passed)
            noted = {destination: replace(room, given=rows[destination]["given"])} if destination in rows else {}
            await cursor.post(QUERIES["note_rooms"], _noted(noted))
            # If one has waited longer at a destination that shares the room, it is woken there.
            ahead = [
                Waiter(row["id"], row["room_wanted"], woken=True)
                for row in order
                if row["id"] == queue.longest and row["destination"] != destination
            ]
            woken = to_wake(room, [*ahead, *waiters])
            if woken:
                await cursor.post(QUERIES["wake_for_room"], {"transfers": woken})
                await notify(cursor, notifications.WORK)
            return len(woken)

        return await self._database.transaction(do)

    async def wake_first(self, destination: str, most: int = WAKING) -> int:
        """Put the longest waiting transfers back in the queue, whatever room there is; return their number."""

        async def do(cursor: Cursor) -> int:
            parameters = {"destination": destination, "limit": most}
            woken = await cursor.fetch(QUERIES["wake_first_for_room"], parameters)
            await notify(cursor, notifications.WORK)
            return len(woken)

        return await self._database.transaction(do)


class _Known:
    """The state in the rows of ``rooms``, which are locked, and of ``read_room_order``."""

    def __init__(self, rows: Mapping[str, Row], order: Sequence[Row]) -> None:
        self._rows = rows
        self._order = order
        self._given = {name: int(row["given"]) for name, row in rows.items()}
        """Bytes that were ever reserved, by destination."""

    def queue(self, beside: Collection[str]) -> RoomQueue:
        """Return the state of destinations that share their room."""
        first = [row for row in self._order if row["longest"] and row["destination"] in beside]
        longest = min(first, key=lambda row: (row["room_since"], row["id"]))["id"] if first else None
        rows = [row for name, row in self._rows.items() if name in beside]
        return RoomQueue(
            sum(given for name, given in self._given.items() if name in beside),
            {row["id"]: row["room_since"] for row in self._order if row["room_since"] is not None},
            longest,
            # The row that was written last has counted most.
            max((row["passed"] for row in rows if row["longest"] == longest), default=0),
        )

    def given(self, requests: Sequence[RoomRequest], granted: Mapping[Key, int], room: Room) -> dict[str, Room]:
        """Return the new states of the requests' destinations, which share their room; count what was granted."""
        noted: dict[str, Room] = {}
        for request in requests:
            name = request.destination
            if request.key in granted:
                self._given[name] += request.base + granted[request.key] - request.had
            free = request.survey.free or 0
            noted[name] = replace(room, free=free, keep=request.keep, given=self._given[name])
        return noted


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
