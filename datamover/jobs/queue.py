"""What an engine asks of the job room: work to do, the lease on it, and where to write what came of it.

A *lease* says who works on a placement group: 30 s, renewed every 10. Every statement here that changes a transfer
names the node and the lease, so that a node which lost it changes nothing. The door's half is ``datamover.jobs.store``.
Every method raises Unavailable while the database is away.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from psycopg2.errors import UniqueViolation
from twisted.python.failure import Failure

from datamover.batch import Batch
from datamover.errors import DestinationExists
from datamover.jobs import news, rows
from datamover.jobs.breaker import USUAL, Breaker, judge
from datamover.jobs.changes import Changes
from datamover.jobs.database import Cursor, Database, Json
from datamover.jobs.history import finish, notify, tell
from datamover.jobs.left import whole
from datamover.jobs.sql import Queries
from datamover.jobs.store import LEASE
from datamover.jobs.values import Progress, State, Transfer
from datamover.jobs.waiting import Bounds
from datamover.jobs.work import (
    Group,
    Outcome,
    Placement,
    Word,
    ended,
    outcome_columns,
    placement_columns,
    word,
)

_Named = tuple[int, int, str]
"""A transfer's id, its leader's lease, and its target."""
NAMED_AT_ONCE = 256


class Queue:
    """The work of one node."""

    def __init__(
        self,
        database: Database,
        cipher: rows.Seal,
        *,
        node: str,
        name: str,
        roles: Sequence[str],
        lease: float = LEASE,
        breaker: Breaker = USUAL,
    ) -> None:
        self._database = database
        self._cipher = cipher
        self._node = node
        self._name = name
        self._roles = sorted(roles)
        self._lease = lease
        self._breaker = asdict(breaker)
        self._queries = Queries.load()
        self._changes = Changes(database)
        self._naming: Batch[_Named, bool] = Batch(self._set_targets, NAMED_AT_ONCE, calls=2)

    @property
    def lease(self) -> float:
        """Seconds that a claim or a renewal holds."""
        return self._lease

    async def beat(self, active: int) -> None:
        """Tell that this node lives, and how many transfers it works on."""
        beat = {"node": self._node, "name": self._name, "roles": self._roles, "active": active}
        await self._database.execute(self._queries["beat"], beat)
        await self._database.execute(self._queries["forget_nodes"])

    async def leave(self) -> None:
        """Tell that this node is gone."""
        await self._database.execute(self._queries["leave"], {"node": self._node})

    async def bury(self) -> tuple[int, bool]:
        """Tell that this node is dead, and put back at once what it held; return how many groups, and if it drained.

        Only for who knows that the node's process has ended.
        """
        await self._database.execute(self._queries["expire_leases"], {"node": self._node})
        left = await self._database.fetch(self._queries["leave"], {"node": self._node})
        return await self.take_over(), any(row["draining"] for row in left)

    # Taking work ----------------------------------------------------------------------------------------------

    async def spent(self, bounds: Bounds) -> list[str]:
        """Return the owners who have had their bytes of the day."""
        most = bounds.bytes_per_day()
        if not most:
            return []
        found = await self._database.read(self._queries["read_moved"], {"owners": list(most)})
        return [row["owner"] for row in found if row["bytes"] >= most[row["owner"]]]

    async def claim(self, bounds: Bounds, room: int, spent: Sequence[str] = ()) -> list[Group]:
        """Take at most ``room`` groups, as ``bounds`` allows: by priority, owners taking turns, oldest first.

        Nothing of the owners who have ``spent`` their bytes of the day, but what is cancelled. Claims take turns. What
        one does under that lock is on one way to the server, so that no process can stand still with it.
        """

        found = await self._database.fetch(
            self._queries["claim"],
            {
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
            },
            behind=self._queries["serialise_claims"],
        )
        leaders = [rows.transfer(row, self._cipher) for row in found]
        staged = [leader for leader in leaders if leader.staged]
        groups = [*(Group((leader,)) for leader in leaders if not leader.staged), *await self._start(staged)]
        return sorted(groups, key=lambda group: (group.leader.job, group.leader.index))

    async def _start(self, leaders: Sequence[Transfer]) -> list[Group]:
        """Start the members of groups that have been claimed, which may be many, and return them whole."""

        async def do(cursor: Cursor) -> list[Group]:
            await cursor.post(self._queries["start_members"], self._fence(leaders))
            return [await whole(cursor, leader, self._cipher) for leader in leaders]

        return await self._database.transaction(do) if leaders else []

    async def take_over(self) -> int:
        """Put back in the queue what nodes that are gone held; return how many groups."""

        async def take(cursor: Cursor) -> int:
            expired = await cursor.fetch(self._queries["read_expired"])
            if not expired:
                return 0
            released = await cursor.fetch(
                self._queries["release_expired"], {"transfers": [row["id"] for row in expired]}
            )
            await self._released(cursor, released)
            return len(released)

        return await self._database.transaction(take)

    async def park(self, held: Sequence[Transfer]) -> None:
        """Hand back groups at once, with the checkpoints that were written."""

        async def do(cursor: Cursor) -> None:
            await cursor.post(self._queries["lock_jobs"], {"jobs": sorted({one.job for one in held})})
            await self._released(cursor, await cursor.fetch(self._queries["park"], self._fence(held)))

        if held:
            await self._database.transaction(do)

    async def disown(self, running: Container[tuple[int, int]]) -> int:
        """Hand back what claims took whose answers were lost: all that is this node's but what is ``running``.

        That is (id, lease) of each; return how many groups. Not while a claim is being made.
        """

        async def do(cursor: Cursor) -> int:
            found = await cursor.fetch(self._queries["read_own"], {"node": self._node})
            lost = [row for row in found if (row["id"], row["lease"]) not in running]
            if lost:
                await cursor.post(self._queries["lock_jobs"], {"jobs": sorted({row["job"] for row in lost})})
                held = {"transfers": [row["id"] for row in lost], "leases": [row["lease"] for row in lost]}
                await self._released(cursor, await cursor.fetch(self._queries["park"], {"node": self._node, **held}))
            return len(lost)

        # A claim whose connection was lost may still be about to be committed: until then it has the lock of claims.
        await self._database.execute(self._queries["let_claims_end"])
        return await self._database.transaction(do)

    async def _released(self, cursor: Cursor, released: Sequence[rows.Row]) -> None:
        keys = {"jobs": [row["job"] for row in released], "leaders": [row["index"] for row in released]}
        await cursor.post(self._queries["release_members"], keys)
        await notify(cursor, news.WORK)

    # Holding it -----------------------------------------------------------------------------------------------

    async def renew(self, held: Sequence[Transfer]) -> dict[tuple[int, int], Word | None]:
        """Renew leases; return (id, lease) of those that are still ours, and what their jobs want of them."""
        renewed = await self._database.fetch(self._queries["renew"], {**self._fence(held), "lease": self._lease})
        return {(row["id"], row["lease"]): word(row) for row in renewed}

    async def stopping(self) -> dict[tuple[int, int], Word | None]:
        """Return (id, lease) of the groups that this node is to stop, and why."""
        found = await self._database.read(self._queries["read_stopping"], {"node": self._node})
        return {(row["id"], row["lease"]): word(row) for row in found}

    async def shares(self) -> dict[str, tuple[int, int]]:
        """Return how many groups are active at each destination: of this node, and of all."""
        found = await self._database.read(self._queries["read_shares"], {"node": self._node})
        return {row["destination"]: (row["here"], row["everywhere"]) for row in found}

    async def progress(self, progress: Sequence[Progress]) -> None:
        """Write how far transfers are, and where they go on from; those whose lease was lost are passed over."""
        parameters = {"node": self._node, "news": Json(rows.progress_parameters(progress))}

        async def do(cursor: Cursor) -> None:
            await cursor.post(self._queries["progress"], parameters)
            await cursor.post(self._queries["tell_resumed"], parameters)

        if any(one.resumed for one in progress):
            await self._database.transaction(do)
        else:
            await self._database.execute(self._queries["progress"], parameters)

    async def set_target(self, transfer: Transfer, leader: Transfer, target: str) -> bool:
        """Write a file's path, once its name is known; False: the lease was lost, or another job's file goes first.

        Raises DestinationExists where another file of the job has it.
        """
        try:
            return await self._naming.add((transfer.id, leader.lease, target))
        except UniqueViolation:
            raise DestinationExists(
                f"another file of this job is, or is to be, called {target!r} too: give the files paths of their own"
            ) from None

    async def _set_targets(self, named: Sequence[_Named]) -> Sequence[bool | Failure]:
        ids, leases, targets = (list(column) for column in zip(*named, strict=True))
        parameters = {"transfers": ids, "leases": leases, "targets": targets, "node": self._node}

        try:
            ours = [row["id"] for row in await self._database.fetch(self._queries["set_targets"], parameters)]
        except UniqueViolation:
            if len(named) == 1:
                return [Failure()]  # type: ignore[no-untyped-call]
            return [answer for one in named for answer in await self._set_targets([one])]
        unhindered = await self._database.fetch(
            self._queries["read_unhindered"], {"transfers": ours}, behind=self._queries["let_claims_end"]
        )
        first = {row["id"] for row in unhindered}
        return [one[0] in first for one in named]

    async def remember(self, leader: Transfer, memory: Mapping[str, Any]) -> bool:
        """Write what is to be known to whoever goes on with a group; False: the lease was lost."""
        parameters = {"transfer": leader.id, "memory": Json(memory), "node": self._node, "lease": leader.lease}
        return bool(await self._database.fetch(self._queries["remember"], parameters))

    async def moving(self, leader: Transfer) -> bool:
        """Write that a group is staged, and moves; False: the lease was lost."""
        return await self._advance(leader, "set_moving", {})

    async def placing(self, leader: Transfer, placements: Sequence[Placement]) -> bool:
        """Write that a group is verified, and that its renames begin; False: the lease was lost."""
        return await self._advance(
            leader, "set_placing", {"placements": Json([placement_columns(one) for one in placements])}
        )

    async def _advance(self, leader: Transfer, query: str, parameters: Mapping[str, Any]) -> bool:
        async def do(cursor: Cursor) -> bool:
            await cursor.post(self._queries["lock_jobs"], {"jobs": [leader.job]})
            fence = {"transfer": leader.id, "node": self._node, "lease": leader.lease}
            found = await cursor.fetch(self._queries[query], {**fence, **parameters})
            if found:
                await cursor.post(self._queries["job_moves_on"], {"job": leader.job})
            return bool(found)

        return await self._database.transaction(do)

    # Ending it ------------------------------------------------------------------------------------------------

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Write how attempts ended; those whose lease was lost are passed over."""

        async def do(cursor: Cursor) -> None:
            jobs = sorted({one.leader.job for one in outcomes})
            await cursor.post(self._queries["lock_jobs"], {"jobs": jobs})
            leaders = [one.leader for one in outcomes]
            ours = {row["id"]: row for row in await cursor.fetch(self._queries["lock_held"], self._fence(leaders))}
            held = [one for one in outcomes if one.leader.id in ours]
            if not held:
                return
            now = ours[held[0].leader.id]["now"]
            paused = {id for id, row in ours.items() if row["paused"]}
            columns = Json([outcome_columns(one, now) for one in held])
            await cursor.post(self._queries["settle"], {"outcomes": columns})
            await tell(
                cursor,
                [
                    (one.leader.job, one.leader.index, remark)
                    for one in held
                    for remark in (*one.remarks, ended(one, now, paused=one.leader.id in paused))
                ],
            )
            for job in sorted(
                {one.leader.job for one in held if one.state is State.FAILED and one.leader.stop_on_failure}
            ):
                await self._changes.follow(cursor, job)
            await finish(cursor, jobs)
            await self._note_sides(cursor, held)

        await self._database.transaction(do)

    async def _note_sides(self, cursor: Cursor, held: Sequence[Outcome]) -> None:
        """Have the breakers know who failed for everyone, and where something went well."""
        broken, mended = judge(held)
        if broken:
            found = [{"name": name, "error": broken[name]} for name in sorted(broken)]
            await cursor.post(self._queries["note_sides"], {"news": Json(found), **self._breaker})
        if mended:
            await cursor.post(self._queries["mend_sides"], {"names": sorted(mended)})

    def _fence(self, held: Sequence[Transfer]) -> dict[str, Any]:
        return {
            "node": self._node,
            "transfers": [one.id for one in held],
            "leases": [one.lease for one in held],
        }
