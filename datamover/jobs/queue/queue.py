"""What an engine asks of the queue: work to do, the lease on it, and where to write what came of it.

A *lease* says who works on a placement group: 30 s, renewed every 10. Every statement here that changes a transfer
names the node and the lease, so that a node which lost it changes nothing. The door's half is ``datamover.jobs.store``;
taking work and giving it back is ``claims``', writing how it ended is ``endings``'. Every method raises Unavailable
while the database is away.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from psycopg2.errors import UniqueViolation

from datamover.concurrency.batcher import Batch, bisect_batch
from datamover.concurrency.loops import OnRefusal, log_refusal
from datamover.errors import DestinationExists
from datamover.jobs import rows
from datamover.jobs.queue.breaker import USUAL, Breaker
from datamover.jobs.queue.claims import Claims
from datamover.jobs.queue.limits import QueueLimits
from datamover.jobs.store import LEASE
from datamover.jobs.values import Progress, Transfer
from datamover.jobs.work import Outcome, Placement, StopReason, placement_columns, stop_reason
from datamover.postgres.database import Cursor, Database, Json

_Named = tuple[int, int, str]
"""A transfer's id, its leader's lease, and its target."""
NAMED_AT_ONCE = 256


class Queue(Claims):
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
        refused: OnRefusal = log_refusal,
    ) -> None:
        super().__init__(database, cipher, node=node, lease=lease, breaker=breaker, refused=refused)
        self._name = name
        self._roles = sorted(roles)
        self._naming: Batch[_Named, bool] = Batch(partial(bisect_batch, self._set_targets), NAMED_AT_ONCE, calls=2)

    @property
    def lease(self) -> float:
        """Seconds that a claim or a renewal holds."""
        return self._lease

    async def heartbeat(self, active: int) -> None:
        """Tell that this node lives, and how many transfers it works on."""
        row = {"node": self._node, "name": self._name, "roles": self._roles, "active": active}
        await self._database.execute(self._queries["heartbeat"], row)
        await self._database.execute(self._queries["forget_nodes"])
        await self._database.execute(self._queries["forget_endpoints"])

    async def deregister(self) -> None:
        """Tell that this node is gone."""
        await self._database.execute(self._queries["forget_node"], {"node": self._node})

    async def release_dead_node(self) -> tuple[int, bool]:
        """Tell that this node is dead, and put back at once what it held; return how many groups, and if it drained.

        Only for who knows that the node's process has ended.
        """
        await self._database.execute(self._queries["expire_leases"], {"node": self._node})
        left = await self._database.fetch(self._queries["forget_node"], {"node": self._node})
        return await self.take_over(), any(row["draining"] for row in left)

    async def over_daily_quota(self, bounds: QueueLimits) -> list[str]:
        """Return the owners who have had their bytes of the day."""
        most = bounds.bytes_per_day()
        if not most:
            return []
        found = await self._database.read(self._queries["read_moved"], {"owners": list(most)})
        return [row["owner"] for row in found if row["bytes"] >= most[row["owner"]]]

    # Holding it -----------------------------------------------------------------------------------------------

    async def renew(self, held: Sequence[Transfer]) -> dict[tuple[int, int], StopReason | None]:
        """Renew leases; return (id, lease) of those that are still ours, and what their jobs want of them."""
        renewed = await self._database.fetch(self._queries["renew"], {**self._fence(held), "lease": self._lease})
        return {(row["id"], row["lease"]): stop_reason(row) for row in renewed}

    async def stopping(self) -> dict[tuple[int, int], StopReason | None]:
        """Return (id, lease) of the groups that this node is to stop, and why."""
        found = await self._database.read(self._queries["read_stopping"], {"node": self._node})
        return {(row["id"], row["lease"]): stop_reason(row) for row in found}

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

    async def _set_targets(self, named: Sequence[_Named]) -> Sequence[bool]:
        ids, leases, targets = (list(column) for column in zip(*named, strict=True))
        parameters = {"transfers": ids, "leases": leases, "targets": targets, "node": self._node}
        ours = [row["id"] for row in await self._database.fetch(self._queries["set_targets"], parameters)]
        found = await self._database.fetch(
            self._queries["read_may_go_on"], {"transfers": ours}, behind=self._queries["let_claims_end"]
        )
        first = {row["id"] for row in found}
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
        await self._endings.settle(outcomes)

    async def settle_alone(self, outcome: Outcome) -> bool:
        """Write one that the database refuses by as little as it takes; see ``Endings.settle_alone``."""
        return await self._endings.settle_alone(outcome)

    def _fence(self, held: Sequence[Transfer]) -> dict[str, Any]:
        return {
            "node": self._node,
            "transfers": [one.id for one in held],
            "leases": [one.lease for one in held],
        }
