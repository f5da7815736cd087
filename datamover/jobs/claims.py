"""Who works on what: groups that an engine takes from the queue, takes over from the dead, and gives back.

A *lease* says who works on a placement group. What the database refuses to have changed of one group, and what cannot
be read of it, is that group's matter: the others are taken. Every method raises Unavailable while the database is away.
"""

import time
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.errors import InternalError, Unavailable
from datamover.jobs import news, rows
from datamover.jobs.breaker import Breaker
from datamover.jobs.database import Cursor, Database, Row
from datamover.jobs.endings import Endings, Telling, finish, tell
from datamover.jobs.refusals import Aside, apart, take
from datamover.jobs.sql import Queries
from datamover.jobs.values import Transfer
from datamover.jobs.waiting import Bounds
from datamover.jobs.work import Group, Remark, started
from datamover.loops import Refused

log = Logger()

_QUERIES = Queries.load()


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """A group that was taken and cannot be read."""

    leader: Row
    failure: Failure


class Claims:
    """Those of one node."""

    def __init__(
        self,
        database: Database,
        cipher: rows.Seal,
        *,
        node: str,
        lease: float,
        breaker: Breaker,
        refused: Refused,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._cipher = cipher
        self._node = node
        self._lease = lease
        self._refused = refused
        self._aside = Aside(monotonic)
        self._endings = Endings(database, node, breaker)
        self._queries = _QUERIES

    # Taking ---------------------------------------------------------------------------------------------------

    async def claim(self, bounds: Bounds, room: int, spent: Sequence[str] = ()) -> list[Group]:
        """Take at most ``room`` groups, as ``bounds`` allows: by priority, owners taking turns, oldest first.

        Nothing of the owners who have ``spent`` their bytes of the day, but what is cancelled.
        """
        parameters = {
            "destinations": list(bounds.destinations),
            "limits": list(bounds.destinations.values()),
            "max_active": bounds.total,
            "per_owner": bounds.per_owner,
            "owners": list(bounds.owners),
            "quotas": [bounds.active_of(owner) for owner in bounds.owners],
            "spent": list(spent),
            "per_source_host": bounds.per_source_host,
            "room": room,
            "node": self._node,
            "lease": self._lease,
            "only": None,
            "passed_over": self._aside.ids,
        }
        taken, refused = await take(
            lambda only: self._claim({**parameters, "only": only}),
            lambda: self._database.read(self._queries["claim.chosen"], parameters),
        )
        for row, failure in refused:
            if self._pass_over("claims", row, failure):
                taken |= await self._claim_alone(row, parameters)
        groups = []
        for id, group in taken.items():
            self._aside.take_back(id)
            if isinstance(group, Group):
                groups.append(group)
            else:
                await self._end_unreadable(group)
        return sorted(groups, key=lambda group: (group.leader.job, group.leader.index))

    async def _claim_alone(self, row: Row, parameters: Mapping[str, Any]) -> dict[int, Group | _Unreadable]:
        """Take one group without telling of it; where the database refuses that too, end it."""
        taken: dict[int, Group | _Unreadable] = {}

        async def claim() -> None:
            taken.update(await self._claim({**parameters, "only": [row["id"]]}, Telling.NOTHING))

        await self._refuse(row, InternalError(), claim)
        return taken

    async def _claim(
        self, parameters: Mapping[str, Any], telling: Telling = Telling.ALL
    ) -> dict[int, Group | _Unreadable]:
        async def take(cursor: Cursor) -> dict[int, Group | _Unreadable]:
            await cursor.post(self._queries["serialise_claims"])
            found = await cursor.fetch(self._queries["claim"], parameters)
            if not found:
                return {}
            taken: dict[int, Group | _Unreadable] = {row["id"]: self._group(row, [row]) for row in found}
            staged = [group.leader for group in _groups(taken) if group.leader.staged]
            keys = {"jobs": [one.job for one in staged], "leaders": [one.index for one in staged]}
            if staged:
                await cursor.post(self._queries["start_members"], keys)
            await cursor.post(self._queries["start_jobs"], {"jobs": sorted({row["job"] for row in found})})
            for row in found:
                if row["id"] in {leader.id for leader in staged}:
                    taken[row["id"]] = self._group(row, [row, *await members(cursor, row)])
            begun = [(one.leader.job, one.leader.index, started(one.leader)) for one in _groups(taken)]
            await tell(cursor, begun, telling)
            return taken

        return await self._database.transaction(take)

    def _group(self, leader: Row, found: Sequence[Row]) -> Group | _Unreadable:
        try:
            return Group(tuple(rows.transfer(row, self._cipher) for row in found))
        except Exception:  # Whatever it is, the other groups that were taken are read.
            return _Unreadable(leader, Failure())  # type: ignore[no-untyped-call]

    async def _end_unreadable(self, unreadable: _Unreadable) -> None:
        row, failure = unreadable.leader, unreadable.failure
        self._refused("claims", f"transfer {row['id']} of job {row['job']}, which cannot be read,", failure)
        await self._refuse(row, failure.value if isinstance(failure.value, InternalError) else InternalError())

    def _pass_over(self, loop: str, row: Row, failure: Failure) -> bool:
        """Have what the database refuses to change done later; tell whether it was refused before."""
        times = self._aside.put(row["id"])
        if isinstance(failure.value, Unavailable):
            log.warn("transfer {transfer} waits: {error}", transfer=row["id"], error=str(failure.value))
            return False
        self._refused(loop, f"transfer {row['id']}", failure)
        return times > 1

    async def _refuse(
        self, row: Row, error: InternalError, again: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        """End a group, unless the database takes ``again``."""
        try:
            if await self._endings.refuse(row["id"], row["lease"], error, again):
                self._aside.take_back(row["id"])
        except Unavailable as away:
            log.warn("transfer {transfer} is not ended yet: {error}", transfer=row["id"], error=away.message)

    async def take_over(self) -> int:
        """Put back in the queue what nodes that are gone held; return how many groups."""
        passed_over = set(self._aside.ids)
        found = await self._database.read(self._queries["read_expired"])

        def release(ids: Sequence[int]) -> Awaitable[dict[int, Row]]:
            return self._release("release_expired", {"transfers": ids}, found, ids)

        released, refused = await apart(release, [row for row in found if row["id"] not in passed_over])
        for row, failure in refused:
            if self._pass_over("takeovers", row, failure):
                await self._refuse(row, InternalError(), partial(release, [row["id"]]))
        return len(released)

    # Giving back ----------------------------------------------------------------------------------------------

    async def park(self, held: Sequence[Transfer]) -> None:
        """Hand back groups at once, with the checkpoints that were written."""
        await self._park([{"id": one.id, "job": one.job, "lease": one.lease} for one in held])

    async def disown(self, running: Container[tuple[int, int]]) -> int:
        """Hand back what claims took whose answers were lost: all that is this node's but what is ``running``.

        That is (id, lease) of each; return how many groups. Not while a claim is being made.
        """

        async def do(cursor: Cursor) -> list[Row]:
            # A claim whose connection was lost may still be about to be committed: until then it has this lock.
            await cursor.post(self._queries["serialise_claims"])
            return await cursor.fetch(self._queries["read_own"], {"node": self._node})

        found = await self._database.transaction(do)
        lost = [row for row in found if (row["id"], row["lease"]) not in running]
        await self._park(lost)
        return len(lost)

    async def _park(self, held: Sequence[Row]) -> None:
        """Hand back groups; those of which that is refused go to others when their leases run out."""
        leases = {row["id"]: row["lease"] for row in held}

        def park(ids: Sequence[int]) -> Awaitable[dict[int, Row]]:
            fence = {"node": self._node, "transfers": ids, "leases": [leases[id] for id in ids]}
            return self._release("park", fence, held, ids)

        _, refused = await apart(park, held)
        for row, failure in refused:
            self._refused("leases", f"the handing back of transfer {row['id']}", failure)

    async def _release(
        self, query: str, parameters: Mapping[str, Any], found: Sequence[Row], ids: Sequence[int]
    ) -> dict[int, Row]:
        """Have groups wait again, by a statement that returns those that do; of ``found`` those with these ids."""
        wanted = set(ids)

        async def do(cursor: Cursor) -> dict[int, Row]:
            jobs = sorted({row["job"] for row in found if row["id"] in wanted})
            await cursor.post(self._queries["lock_jobs"], {"jobs": jobs})
            released = await cursor.fetch(self._queries[query], parameters)
            keys = {"jobs": [row["job"] for row in released], "leaders": [row["index"] for row in released]}
            await cursor.post(self._queries["release_members"], keys)
            await self._cancel(cursor, sorted({row["job"] for row in released if row["cancelling"]}))
            await cursor.post(self._queries["notify"], {"news": news.WORK})
            return {row["id"]: row for row in released}

        return await self._database.transaction(do) if ids else {}

    async def _cancel(self, cursor: Cursor, jobs: Sequence[int]) -> None:
        """Cancel what waits in jobs that are being cancelled, whose running transfers were given back."""
        for job in jobs:
            cancelled = await cursor.fetch(self._queries["cancel_waiting"], {"job": job})
            await cursor.post(self._queries["count_cancelled"], {"job": job, "files": len(cancelled)})
            await tell(cursor, [(job, row["index"], Remark("cancelled")) for row in cancelled])
        await finish(cursor, jobs)


def _groups(taken: Mapping[int, Group | _Unreadable]) -> list[Group]:
    return [group for group in taken.values() if isinstance(group, Group)]


async def members(cursor: Cursor, leader: Row) -> list[Row]:
    """Return the rows of the others in a group."""
    found = await cursor.fetch(_QUERIES["read_members"], {"job": leader["job"], "leader": leader["index"]})
    return [row for row in found if row["index"] != leader["index"]]
