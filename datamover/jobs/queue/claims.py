"""Claims: the groups that an engine takes from the queue, takes over from dead nodes, and gives back.

A *lease* says which node works on a placement group. A group that the database refuses to change, or that cannot be
read, does not keep the others from being claimed. Every method raises Unavailable while the database is away.
"""

import time
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency.batcher import away, bisect_batch
from datamover.concurrency.loops import OnRefusal
from datamover.errors import InternalError, Unavailable
from datamover.jobs import notifications, rows
from datamover.jobs.history import notify
from datamover.jobs.queue.endings import Endings
from datamover.jobs.queue.limits import QueueLimits
from datamover.jobs.upkeep.quarantine import Quarantine, isolate, take_or_isolate
from datamover.jobs.values import Transfer
from datamover.jobs.work import Group
from datamover.postgres.database import Cursor, Database, Row
from datamover.postgres.named_queries import QUERIES

log = Logger()


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """A group that was claimed and cannot be read."""

    leader: Row
    failure: Failure


class Claims:
    """The claims of one node."""

    def __init__(
        self,
        database: Database,
        cipher: rows.Seal,
        *,
        node: str,
        lease: float,
        refused: OnRefusal,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._cipher = cipher
        self._node = node
        self._lease = lease
        self._refused = refused
        self._quarantine = Quarantine(monotonic)
        self._endings = Endings(database, node)

    # Claiming -------------------------------------------------------------------------------------------------

    async def claim(self, limits: QueueLimits, room: int, over_quota: Sequence[str] = ()) -> list[Group]:
        """Claim at most ``room`` groups within ``limits``: by priority, owners taking turns, oldest first.

        Of owners ``over_quota``, who have used their bytes of the day, only cancelled groups are claimed. One process
        claims at a time; the lock for that is taken and released in one round trip, so no process can hold it while it
        hangs.
        """
        parameters = {
            "destinations": list(limits.destinations),
            "limits": list(limits.destinations.values()),
            "limits_of_one": [limits.one_of(most) for most in limits.destinations.values()],
            "max_active": limits.total,
            "per_owner": min(limits.per_owner, limits.one_of(limits.total)),
            "owners": list(limits.owners),
            "quotas": [limits.active_of(owner) for owner in limits.owners],
            "over_quota": list(over_quota),
            "per_source_host": limits.per_source_host,
            "per_source_host_of_one": limits.one_of(limits.per_source_host),
            "here_of_one": limits.one_of(limits.here),
            "room": room,
            "node": self._node,
            "lease": self._lease,
            "only": None,
            "passed_over": self._quarantine.ids,
            "told": True,
        }
        taken, refused = await take_or_isolate(
            lambda only: self._claim({**parameters, "only": only}),
            lambda: self._database.read(QUERIES["claim.chosen"], parameters),
        )
        for row, failure in refused:
            if self._refused_again("claims", row, failure):
                taken |= await self._claim_alone(row, parameters)
        groups: list[Group] = []
        for group in await self._start(list(taken.values())):
            if isinstance(group, Group):
                groups.append(group)
            else:
                await self._end_unreadable(group)
        return sorted(groups, key=lambda group: (group.leader.job, group.leader.index))

    async def _claim_alone(self, row: Row, parameters: Mapping[str, Any]) -> dict[int, Row]:
        """Claim one group without writing events; end it if the database refuses that too."""
        taken: dict[int, Row] = {}

        async def claim() -> None:
            taken.update(await self._claim({**parameters, "only": [row["id"]], "told": False}))

        await self._refuse(row, InternalError(), claim)
        return taken

    async def _claim(self, parameters: Mapping[str, Any]) -> dict[int, Row]:
        found = await self._database.fetch(QUERIES["claim"], parameters, behind=QUERIES["serialise_claims"])
        return {row["id"]: row for row in found}

    async def _start(self, claimed: Sequence[Row]) -> list[Group | _Unreadable]:
        """Start the members of claimed groups, which may be many, and return the complete groups.

        A group whose members the database refuses to start is released, and ended when that happens again.
        """
        groups: list[Group | _Unreadable] = []
        staged: list[Row] = []
        for row in claimed:
            group = self._group(row, [row])
            if isinstance(group, Group) and group.leader.staged:
                staged.append(row)
            else:
                self._quarantine.release(row["id"])
                groups.append(group)
        answers: list[Any] = await bisect_batch(self._start_members, staged)
        for row, answer in zip(staged, answers, strict=True):
            if not isinstance(answer, Failure):
                self._quarantine.release(row["id"])
                groups.append(answer)
            elif away(answer):
                answer.raiseException()
            elif self._refused_again("claims", row, answer):
                groups += await self._start_alone(row)
            else:
                await self._release_held([row])
        return groups

    async def _start_alone(self, row: Row) -> list[Group | _Unreadable]:
        """Start the members of one group; end the group if the database refuses that, or release it."""
        started: list[Any] = []

        async def start() -> None:
            started.extend(await self._start_members([row]))

        if not await self._refuse(row, InternalError(), start):
            await self._release_held([row])
        return started

    async def _start_members(self, leaders: Sequence[Row]) -> Sequence[Group | _Unreadable | Failure]:
        async def do(cursor: Cursor) -> Sequence[Group | _Unreadable]:
            fence = {"node": self._node, "transfers": [row["id"] for row in leaders]}
            await cursor.post(QUERIES["start_members"], {**fence, "leases": [row["lease"] for row in leaders]})
            return [self._group(row, [row, *await members(cursor, row)]) for row in leaders]

        return await self._database.transaction(do)

    def _group(self, leader: Row, found: Sequence[Row]) -> Group | _Unreadable:
        try:
            return Group(tuple(rows.transfer(row, self._cipher) for row in found))
        except Exception:  # Any error: the other groups that were claimed must be read.
            return _Unreadable(leader, Failure())  # type: ignore[no-untyped-call]

    async def _end_unreadable(self, unreadable: _Unreadable) -> None:
        row, failure = unreadable.leader, unreadable.failure
        self._refused("claims", f"transfer {row['id']} of job {row['job']}, which cannot be read,", failure)
        await self._refuse(row, failure.value if isinstance(failure.value, InternalError) else InternalError())

    def _refused_again(self, loop: str, row: Row, failure: Failure) -> bool:
        """Quarantine a group that the database refuses to change; return whether it had refused it before."""
        times = self._quarantine.add(row["id"])
        if isinstance(failure.value, Unavailable):
            log.warn("transfer {transfer} waits: {error}", transfer=row["id"], error=str(failure.value))
            return False
        self._refused(loop, f"transfer {row['id']}", failure)
        return times > 1

    async def _refuse(
        self, row: Row, error: InternalError, again: Callable[[], Awaitable[object]] | None = None
    ) -> bool:
        """End a group, unless the database accepts ``again``; return False if it accepts neither."""
        try:
            if await self._endings.refuse(row["id"], row["lease"], error, again):
                self._quarantine.release(row["id"])
                return True
        except Unavailable as unavailable:
            log.warn("transfer {transfer} could not be ended yet: {error}", transfer=row["id"], error=unavailable.full)
        return False

    async def take_over(self) -> int:
        """Put the groups of dead nodes back in the queue; return their number."""
        passed_over = set(self._quarantine.ids)
        found = await self._database.read(QUERIES["read_expired"])
        release = partial(self._release, "release_expired", found, lock="lock_free_jobs")
        released, refused = await isolate(release, [row for row in found if row["id"] not in passed_over])
        for row, failure in refused:
            if self._refused_again("takeovers", row, failure):
                await self._refuse(row, InternalError(), partial(release, [row["id"]]))
        return len(released)

    # Releasing ------------------------------------------------------------------------------------------------

    async def release(self, held: Sequence[Transfer]) -> None:
        """Put groups back in the queue at once, with the checkpoints that were written."""
        await self._release_held([{"id": one.id, "job": one.job, "lease": one.lease} for one in held])

    async def reclaim_unknown(self, running: Container[tuple[int, int]]) -> int:
        """Release the groups of claims whose answers were lost: this node's groups that are not in ``running``.

        ``running`` has (id, lease) of each group. Returns the number of groups. Must not be called during a claim.
        """

        # A claim whose connection was lost may not have committed yet; it holds the lock of claims until it has.
        await self._database.execute(QUERIES["let_claims_end"])
        found = await self._database.read(QUERIES["read_own"], {"node": self._node})
        lost = [row for row in found if (row["id"], row["lease"]) not in running]
        await self._release_held(lost)
        return len(lost)

    async def _release_held(self, held: Sequence[Row]) -> None:
        """Release groups; those that the database refuses to change go to others when their leases run out."""
        _, refused = await isolate(lambda ids: self._release("release_held", held, ids, lock="lock_jobs"), held)
        for row, failure in refused:
            self._refused("leases", f"the release of transfer {row['id']}", failure)

    async def _release(self, query: str, held: Sequence[Row], ids: Sequence[int], *, lock: str) -> dict[int, Row]:
        """Put the groups of ``held`` with these ids back in the queue by ``query``; return those that were.

        ``lock`` names the query that locks their jobs; groups whose jobs it does not lock stay as they are.
        """
        wanted = [row for row in held if row["id"] in set(ids)]

        async def do(cursor: Cursor) -> dict[int, Row]:
            jobs = sorted({row["job"] for row in wanted})
            locked = {row["id"] for row in await cursor.fetch(QUERIES[lock], {"jobs": jobs})}
            free = [row for row in wanted if row["job"] in locked]
            fence = {"transfers": [row["id"] for row in free], "leases": [row["lease"] for row in free]}
            released = await cursor.fetch(QUERIES[query], {**fence, "node": self._node})
            keys = {"jobs": [row["job"] for row in released], "leaders": [row["index"] for row in released]}
            await cursor.post(QUERIES["release_members"], keys)
            await notify(cursor, notifications.WORK)
            return {row["id"]: row for row in released}

        return await self._database.transaction(do) if wanted else {}


async def members(cursor: Cursor, leader: Row) -> list[Row]:
    """Return the rows of a group's members, without its leader."""
    found = await cursor.fetch(QUERIES["read_members"], {"job": leader["job"], "leader": leader["index"]})
    return [row for row in found if row["index"] != leader["index"]]
