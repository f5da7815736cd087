"""The interface of an attempt at a placement group, and the attempt at a single file."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from datamover.datasets.base import Dataset
from datamover.engine.lease import Lease, Parked
from datamover.engine.meter import Meter
from datamover.engine.room.reservation import RoomReservation, Rooms
from datamover.engine.throttle import Throttle
from datamover.engine.transfer.leftovers import clear
from datamover.engine.transfer.spec import TransferResult, TransferSpec, TransferTools
from datamover.engine.transfer.transfer import move
from datamover.errors import Scope, SourceForbidden, UnsupportedScheme
from datamover.jobs.queue.queue import Queue
from datamover.jobs.values import Checkpoint, DatasetSource, PlaceSource, SourceRef, Transfer
from datamover.jobs.work import Remark
from datamover.protocols.base import Lack, Origin
from datamover.registry.destinations import Registry
from datamover.text.quoting import short_source


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a successful attempt, for the group's leader."""

    size: int | None
    """None: the size in the transfer's row stays."""
    digest: str | None
    remarks: tuple[Remark, ...] = ()
    target: str | None = None
    """The path at the destination; None: it is known from an earlier attempt."""


class Attempt(Protocol):
    """One attempt at one group."""

    meters: Sequence[Meter]
    """The figures of its files; the leader's first."""

    async def run(self) -> Done:
        """Move everything into place; raises DataMoverErrors. Cancelling stops at once."""
        ...

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Where the next attempt may begin."""
        ...

    @property
    def placing(self) -> bool:
        """Whether the placing of the group's files has begun: the next attempt goes on with that."""
        ...

    async def clear(self) -> bool:
        """Remove what is left at the destination if no attempt will go on; tell whether all is removed."""
        ...

    async def abandon(self) -> None:
        """Cancel what remote services were asked to make for the group."""
        ...

    async def close(self) -> None:
        """Release the resources that the attempt used on this node."""
        ...


@dataclass(frozen=True, slots=True)
class AttemptContext:
    """The dependencies of an attempt."""

    tools: TransferTools
    registry: Registry
    queue: Queue
    throttle: Callable[[str], Throttle | None]
    """The rate limit of a destination, by its name."""
    rooms: Rooms
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    """By their scheme."""

    def origin(self, source: SourceRef, owner: str) -> Origin:
        """Return the Origin of a source, under the rules of its job's owner; raises UnknownDestination."""
        assert not isinstance(source, DatasetSource), "a dataset is made before it is read"
        if isinstance(source, PlaceSource):
            return self.registry.get(source.destination).at(Scope.SOURCE).origin(source.path)
        if self.registry.http is None:
            raise SourceForbidden("this process reads no URLs")
        origin: Origin = self.registry.http.origin(source.url, client=owner)
        return origin

    def dataset(self, url: str) -> Dataset:
        """Return the Dataset of a URL's scheme; raises UnsupportedScheme."""
        scheme = url.partition(":")[0]
        if scheme not in self.datasets:
            raise UnsupportedScheme(f"{scheme}:// datasets are not configured on this node: add [{scheme}]")
        return self.datasets[scheme]

    def room(self, leader: Transfer, *, counted: bool = True) -> RoomReservation | None:
        """Return the room to be reserved for a group; None where its destination keeps none free.

        ``counted``: the leader's progress tells how far the group is. Raises UnknownDestination.
        """
        destination = self.registry.get(leader.destination)
        if destination.keep_free is None:
            return None
        return RoomReservation(self.rooms, destination, leader, counted=counted)

    def spec(self, transfer: Transfer, lease: Lease, **changes: Any) -> TransferSpec:
        """Return the TransferSpec of a transfer, with the fields in ``changes`` replaced."""
        destination = self.registry.get(transfer.destination)

        async def name_target(target: str) -> None:
            if target == transfer.target or await self.queue.set_target(transfer, lease.leader, target):
                return
            if not transfer.staged:
                lease.park()
                raise Parked(f"another job's file goes to {target!r} first")

        fields: dict[str, Any] = {
            "transfer": transfer.id,
            "source": short_source(transfer.source.shown),
            "place": destination.at(Scope.DESTINATION),
            "path": transfer.path,
            "naming": transfer.naming,
            "target": transfer.target,
            "overwrite": transfer.overwrite,
            "checksum": transfer.checksum,
            "size": transfer.size,
            "checkpoint": transfer.checkpoint,
            "sent": transfer.sent,
            "read_back": destination.verify == "read-back",
            "throttle": self.throttle(transfer.destination),
            "name_target": name_target,
            **changes,
        }
        if "origin" not in fields:
            fields["origin"] = self.origin(transfer.source, transfer.owner)
        return TransferSpec(**fields)


@dataclass(slots=True)
class FileAttempt:
    """An attempt at a single file."""

    transfer: Transfer
    lease: Lease
    context: AttemptContext
    meters: Sequence[Meter] = field(init=False)
    _spec: TransferSpec = field(init=False)

    def __post_init__(self) -> None:
        """Look up both ends; raises UnknownDestination."""
        self._spec = self.context.spec(self.transfer, self.lease, room=self.context.room(self.transfer))
        self.meters = (Meter(self.transfer.id, self.lease.leader.lease),)
        self.meters[0].checkpoint = self.transfer.checkpoint

    placing: bool = False

    @property
    def checkpoint(self) -> Checkpoint | None:
        return self.meters[0].checkpoint

    async def run(self) -> Done:
        result = await move(self._spec, self.lease, self.meters[0], self.context.tools)
        return Done(result.size, result.digest, remarks_of(result), result.target)

    async def clear(self) -> bool:
        return await clear(self._spec, self.lease, self.meters[0], self.context.tools)

    async def abandon(self) -> None:
        """Do nothing: no remote service makes a single file."""

    async def close(self) -> None:
        """Do nothing: a single file uses no resources of this node."""


def remarks_of(result: TransferResult) -> tuple[Remark, ...]:
    """Return the events of a file that was there already, or that the destination stored without some attribute."""
    if result.already_there:
        return (Remark("already_there", {"path": result.target}),)
    return without(result.target, result.without)


def without(path: str, lacks: Iterable[Lack]) -> tuple[Remark, ...]:
    """Return the event of a file that the destination stored without some attribute or guarantee."""
    by_ability = {lack.ability: lack.as_dict() for lack in lacks}
    return (Remark("without", {"path": path, "without": list(by_ability.values())}),) if by_ability else ()
