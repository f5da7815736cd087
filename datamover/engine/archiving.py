"""An attempt at an archive: stage the files, make one of them, move that.

The staged files and the archive stand on this node's own disk; another node that takes over stages again. What has
been made before the move begins is told in the members' rows, file by file.
"""

import threading
from collections.abc import Sequence
from functools import partial

from datamover.engine.archive import BAGIT, Member, Stopped, bagit_name, make, unique_names
from datamover.engine.attempt import Done, Rooms
from datamover.engine.gather import gather
from datamover.engine.lease import Lease
from datamover.engine.meter import Meter
from datamover.engine.staging import Staging
from datamover.engine.transfer import Moved, Order, clear, move
from datamover.errors import DataMoverError, NoSpace, Scope, ServerError
from datamover.jobs.queue import Group, Remark
from datamover.jobs.values import Checkpoint, Naming, Overwrite, Transfer

AT_ONCE = 4
"""Files that are staged at a time."""
ARCHIVE = "archive.zip"


class ArchiveAttempt:
    """All files of a job, as one zip."""

    def __init__(self, group: Group, lease: Lease, rooms: Rooms, staging: Staging) -> None:
        """Look up both ends; raises UnknownDestination."""
        self._transfers = group.transfers
        self._lease = lease
        self._rooms = rooms
        self._staging = staging
        self._name = f"{lease.leader.id}-{lease.leader.lease}"
        self._stop = threading.Event()
        self._meters = {
            transfer.id: Meter(transfer.id, lease.leader.lease, stage="waiting to be staged")
            for transfer in self._transfers
        }
        self.meters: Sequence[Meter] = tuple(self._meters.values())
        self._whole = Meter(lease.leader.id, lease.leader.lease)
        self._orders = [self._inward(transfer) for transfer in self._transfers]
        self._outward = self._outward_order(lease.leader)

    checkpoint: Checkpoint | None = None
    """None: an archive is made anew by each attempt."""

    async def run(self) -> Done:
        staged = await gather([partial(self._stage, *pair) for pair in self._pairs()], AT_ONCE)
        leader = self._meters[self._lease.leader.id]
        leader.stage = "making the archive"
        await self._make(staged)
        await self._rooms.queue.placing(self._lease.leader)
        leader.stage = "moving the archive"
        moved = await move(self._outward, self._lease, self._whole, self._rooms.tools)
        return Done(staged[0].size, staged[0].digest, (_remark(moved),))

    async def clear(self) -> None:
        await clear(self._outward, self._lease, self._whole)

    async def close(self) -> None:
        self._stop.set()
        await self._staging.clear(self._name)

    # The steps ------------------------------------------------------------------------------------------------

    def _pairs(self) -> list[tuple[Transfer, Order]]:
        return list(zip(self._transfers, self._orders, strict=True))

    async def _stage(self, transfer: Transfer, order: Order) -> Moved:
        meter = self._meters[transfer.id]
        try:
            moved = await move(order, self._lease, meter, self._rooms.tools)
        except DataMoverError as error:
            raise _of_file(transfer, error) from error
        if not moved.name:
            raise ServerError(f"{order.source} tells no file name, and the archive needs one", scope=Scope.SOURCE)
        meter.digest, meter.stage = moved.digest, "staged"
        return moved

    async def _make(self, staged: Sequence[Moved]) -> None:
        layout = self._lease.leader.archive or ""
        members = [
            Member(self._staging.path(self._name, str(index)), name, one.digests["md5"], one.modified)
            for index, (name, one) in enumerate(zip(unique_names([one.name for one in staged]), staged, strict=True))
        ]
        target = self._staging.path(self._name, ARCHIVE)
        try:
            await self._rooms.tools.offload(make, target, members, layout, self._stop)
        except Stopped:
            raise ServerError("the archive was not made to its end", scope=Scope.SERVICE) from None
        except OSError as error:
            raise NoSpace(f"the archive cannot be made on this node: {error.strerror}", scope=Scope.SERVICE) from error

    def _inward(self, transfer: Transfer) -> Order:
        return self._rooms.order(
            transfer,
            self._lease,
            place=self._staging.place,
            path=f"{self._name}/{transfer.index}",
            naming=Naming.EXACT,
            overwrite=Overwrite.ALWAYS,
            checkpoint=None,
            sent=0,
            read_back=False,
            throttle=None,
            name=None,
            algorithms=frozenset({"md5"}),
            resumable=False,
        )

    def _outward_order(self, leader: Transfer) -> Order:
        name = bagit_name(leader.job) if leader.archive == BAGIT else None
        return self._rooms.order(
            leader,
            self._lease,
            origin=self._staging.origin_place().origin(f"{self._name}/{ARCHIVE}"),
            name=name,
            source=f"the archive of job {leader.job}",
            checksum=None,
            size=None,
            checkpoint=None,
            sent=0,
            resumable=False,
        )


def _of_file(transfer: Transfer, error: DataMoverError) -> DataMoverError:
    message = f"files[{transfer.index}]: {error.message}"
    return type(error)(message, scope=error.scope, retry_after=error.retry_after)


def _remark(moved: Moved) -> Remark:
    details = {"path": moved.target, "size": moved.size, "digest": moved.digest}
    return Remark("already_there" if moved.already_there else "archived", details)
