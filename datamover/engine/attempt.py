"""One attempt at a placement group, as the worker sees it; and the simplest: a file on its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from datamover.engine.lease import Lease
from datamover.engine.meter import Meter
from datamover.engine.throttle import Throttle
from datamover.engine.transfer import Moved, Order, Tools, clear, move
from datamover.errors import Scope, SourceForbidden
from datamover.jobs.queue import Queue, Remark
from datamover.jobs.values import Checkpoint, PlaceSource, SourceRef, Transfer
from datamover.protocols.base import Origin
from datamover.registry.destinations import Registry


@dataclass(frozen=True, slots=True)
class Done:
    """What an attempt that ended well tells of the group's leader."""

    size: int
    digest: str
    remarks: tuple[Remark, ...] = ()


class Attempt(Protocol):
    """One attempt at one group."""

    meters: Sequence[Meter]
    """The figures of its files; the leader's first."""

    async def run(self) -> Done:
        """Bring everything into place; raises errors of the family. Cancelling stops at once."""
        ...

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Where the next attempt may begin."""
        ...

    async def clear(self) -> None:
        """Remove what is left at the destination, for when nobody goes on from it."""
        ...

    async def close(self) -> None:
        """Let go of what the attempt used on this node."""
        ...


@dataclass(frozen=True, slots=True)
class Rooms:
    """What attempts are made with."""

    tools: Tools
    registry: Registry
    queue: Queue
    throttle: Callable[[str], Throttle | None]
    """The rate limit of a destination, by its name."""

    def origin(self, source: SourceRef) -> Origin:
        """Return what a source is read from; raises UnknownDestination."""
        if isinstance(source, PlaceSource):
            return self.registry.get(source.destination).at(Scope.SOURCE).origin(source.path)
        if self.registry.http is None:
            raise SourceForbidden("this process reads no URLs")
        origin: Origin = self.registry.http.origin(source.url)
        return origin

    def order(self, transfer: Transfer, lease: Lease, **changes: Any) -> Order:
        """Return the order to move a transfer's file; ``changes`` replaces what is to be otherwise."""
        destination = self.registry.get(transfer.destination)

        async def name_target(target: str) -> None:
            await self.queue.set_target(transfer, lease.leader, target)

        parts: dict[str, Any] = {
            "transfer": transfer.id,
            "source": transfer.source.shown,
            "place": destination.at(Scope.DESTINATION),
            "path": transfer.path,
            "naming": transfer.naming,
            "overwrite": transfer.overwrite,
            "checksum": transfer.checksum,
            "size": transfer.size,
            "checkpoint": transfer.checkpoint,
            "sent": transfer.sent,
            "read_back": destination.verify == "read-back",
            "throttle": self.throttle(transfer.destination),
            "name": None,
            "algorithms": frozenset[str](),
            "resumable": True,
            "name_target": name_target,
        }
        if "origin" not in changes:
            parts["origin"] = self.origin(transfer.source)
        return Order(**{**parts, **changes})


@dataclass(slots=True)
class FileAttempt:
    """A file on its own."""

    transfer: Transfer
    lease: Lease
    rooms: Rooms
    meters: Sequence[Meter] = field(init=False)
    _order: Order = field(init=False)

    def __post_init__(self) -> None:
        """Look up both ends; raises UnknownDestination."""
        self._order = self.rooms.order(self.transfer, self.lease)
        self.meters = (Meter(self.transfer.id, self.lease.leader.lease),)
        self.meters[0].checkpoint = self.transfer.checkpoint

    @property
    def checkpoint(self) -> Checkpoint | None:
        return self.meters[0].checkpoint

    async def run(self) -> Done:
        moved = await move(self._order, self.lease, self.meters[0], self.rooms.tools)
        return Done(moved.size, moved.digest, (remark_of(moved),) if moved.already_there else ())

    async def clear(self) -> None:
        await clear(self._order, self.lease, self.meters[0])

    async def close(self) -> None:
        """There is nothing on this node to let go of."""


def remark_of(moved: Moved) -> Remark:
    """Return the event of a file that was there already."""
    details: Mapping[str, Any] = {"path": moved.target}
    return Remark("already_there", details)
