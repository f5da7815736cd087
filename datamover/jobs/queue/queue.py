"""The queue as one engine uses it: claims, leases, progress and outcomes.

A *lease* says which node works on a placement group; it lasts 30 s and is renewed every 10 s. Every statement that
changes a transfer names the node and the lease, so a node that has lost the lease changes nothing. Claims and releases
are in ``claims``, outcomes in ``endings``; the interface's half is ``datamover.jobs.store``. Every method raises
Unavailable while the database is away.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from psycopg2.errors import UniqueViolation

from datamover.concurrency.batcher import Batch, bisect_batch
from datamover.concurrency.loops import OnRefusal, log_refusal
from datamover.errors import DestinationExists
from datamover.jobs import rows
from datamover.jobs.queue.claims import Claims
from datamover.jobs.queue.limits import QueueLimits
from datamover.jobs.store import LEASE
from datamover.jobs.values import Progress, Transfer
from datamover.jobs.work import Outcome, Placement, StopReason, fence, placement_columns, stop_reason
from datamover.postgres.database import Cursor, Database, Json
from datamover.postgres.named_queries import QUERIES

_Named = tuple[int, int, str]
"""A transfer's id, its leader's lease, and its target."""
NAMED_AT_ONCE = 256
"""Targets that one statement writes, at most."""


class Queue(Claims):
    """The queue, for one node."""

    def __init__(
        self,
        database: Database,
        cipher: rows.Seal,
        *,
        node: str,
        name: str,
        roles: Sequence[str],
        lease: float = LEASE,
        refused: OnRefusal = log_refusal,
    ) -> None:
        super().__init__(database, cipher, node=node, lease=lease, refused=refused)
        self._name = name
        self._roles = sorted(roles)
        self._naming: Batch[_Named, bool] = Batch(partial(bisect_batch, self._set_targets), NAMED_AT_ONCE, calls=2)

    @property
    def lease(self) -> float:
        """The seconds that a lease lasts after a claim or a renewal."""
        return self._lease

    async def heartbeat(self, active: int) -> None:
        """Write that this node is alive, and the number of transfers it works on."""
        row = {"node": self._node, "name": self._name, "roles": self._roles, "active": active}
        await self._database.execute(QUERIES["heartbeat"], row)
        await self._database.execute(QUERIES["forget_nodes"])
        await self._database.execute(QUERIES["forget_endpoints"])

    async def deregister(self) -> None:
        """Remove this node, because its process ends."""
        await self._database.execute(QUERIES["forget_node"], {"node": self._node})

    async def release_dead_node(self) -> tuple[int, bool]:
        """Remove this node and put its groups back in the queue; return their number and whether it was draining.

        Must be called only when the node's process is known to have ended.
        """
        await self._database.execute(QUERIES["expire_leases"], {"node": self._node})
        left = await self._database.fetch(QUERIES["forget_node"], {"node": self._node})
        return await self.take_over(), any(row["draining"] for row in left)

    async def over_daily_quota(self, limits: QueueLimits) -> list[str]:
        """Return the owners that have used their bytes of the day."""
        most = limits.bytes_per_day()
        if not most:
            return []
        found = await self._database.read(QUERIES["read_moved"], {"owners": list(most)})
        return [row["owner"] for row in found if row["bytes"] >= most[row["owner"]]]

    # Working --------------------------------------------------------------------------------------------------

    async def renew(self, held: Sequence[Transfer]) -> dict[tuple[int, int], StopReason | None]:
        """Renew leases; return (id, lease) of those that this node still holds, and why to stop each (None: go on)."""
        renewed = await self._database.fetch(QUERIES["renew"], {**fence(self._node, held), "lease": self._lease})
        return {(row["id"], row["lease"]): stop_reason(row) for row in renewed}

    async def stopping(self) -> dict[tuple[int, int], StopReason | None]:
        """Return (id, lease) of the groups that this node must stop, and why."""
        found = await self._database.read(QUERIES["read_stopping"], {"node": self._node})
        return {(row["id"], row["lease"]): stop_reason(row) for row in found}

    async def shares(self) -> dict[str, tuple[int, int]]:
        """Return the number of active groups at each destination: this node's, and those of all nodes."""
        found = await self._database.read(QUERIES["read_shares"], {"node": self._node})
        return {row["destination"]: (row["here"], row["everywhere"]) for row in found}

    async def progress(self, progress: Sequence[Progress]) -> None:
        """Write the progress of transfers; those whose lease was lost are ignored."""
        parameters = {"node": self._node, "news": Json(rows.progress_parameters(progress))}

        async def do(cursor: Cursor) -> None:
            await cursor.post(QUERIES["progress"], parameters)
            await cursor.post(QUERIES["tell_resumed"], parameters)

        if any(one.resumed for one in progress):
            await self._database.transaction(do)
        else:
            await self._database.execute(QUERIES["progress"], parameters)

    async def set_target(self, transfer: Transfer, leader: Transfer, target: str) -> bool:
        """Write a target's path, once it is known; return False if the lease was lost or another job's file goes first.

        Raises DestinationExists if another file of the job has the same target.
        """
        try:
            return await self._naming.add((transfer.id, leader.lease, target))
        except UniqueViolation:
            raise DestinationExists(
                f"another file of this job is, or is to be, called {target!r} too: give the files paths of their own"
            ) from None

    async def _set_targets(self, named: Sequence[_Named]) -> Sequence[bool]:
        ids, leases, targets = (list(column) for column in zip(*named, strict=True))
        parameters = {"transfers": ids, "leases": leases, "targets": targets, "node": self._node}
        ours = [row["id"] for row in await self._database.fetch(QUERIES["set_targets"], parameters)]
        found = await self._database.fetch(
            QUERIES["read_may_go_on"], {"transfers": ours}, behind=QUERIES["let_claims_end"]
        )
        first = {row["id"] for row in found}
        return [one[0] in first for one in named]

    async def remember(self, leader: Transfer, memory: Mapping[str, Any]) -> bool:
        """Store state for later attempts at a group; return False if the lease was lost."""
        parameters = {"transfer": leader.id, "memory": Json(memory), "node": self._node, "lease": leader.lease}
        return bool(await self._database.fetch(QUERIES["remember"], parameters))

    async def moving(self, leader: Transfer) -> bool:
        """Write that a group is staged and starts to move; return False if the lease was lost."""
        return await self._advance(leader, "set_moving", {})

    async def placing(self, leader: Transfer, placements: Sequence[Placement]) -> bool:
        """Write that a group is verified and its placing begins; return False if the lease was lost."""
        return await self._advance(
            leader, "set_placing", {"placements": Json([placement_columns(one) for one in placements])}
        )

    async def _advance(self, leader: Transfer, query: str, parameters: Mapping[str, Any]) -> bool:
        async def do(cursor: Cursor) -> bool:
            await cursor.post(QUERIES["lock_jobs"], {"jobs": [leader.job]})
            leased = {"transfer": leader.id, "node": self._node, "lease": leader.lease}
            found = await cursor.fetch(QUERIES[query], {**leased, **parameters})
            if found:
                await cursor.post(QUERIES["job_moves_on"], {"job": leader.job})
            return bool(found)

        return await self._database.transaction(do)

    # Ending ---------------------------------------------------------------------------------------------------

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Write the outcomes of attempts; those whose lease was lost are ignored."""
        await self._endings.settle(outcomes)

    async def settle_alone(self, outcome: Outcome) -> bool:
        """Write an outcome that the database has refused; see ``Endings.settle_alone``."""
        return await self._endings.settle_alone(outcome)
