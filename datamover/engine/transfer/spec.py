"""The specification and the result of one transfer."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from datamover.concurrency.pools import Pools
from datamover.config.schema import Transfers
from datamover.engine.room.reservation import RoomReservation
from datamover.engine.throttle import Throttle
from datamover.engine.transfer.digest import MAIN, Digest
from datamover.jobs.values import Checkpoint, Checksum, Naming, Overwrite
from datamover.protocols.base import Lack, Origin
from datamover.protocols.place import Place
from datamover.protocols.upload import Upload


@dataclass(slots=True)
class TransferSpec:
    """What one transfer moves, where to, and under which rules; it does not change.

    It is not frozen: one is made for every file, and with so many fields a frozen one takes several times as long.
    """

    transfer: int
    origin: Origin
    source: str
    """The source's name, for people and for the upload's key."""
    place: Place
    path: str
    naming: Naming
    target: str | None
    """The target's path, if an earlier attempt has determined it."""
    overwrite: Overwrite
    checksum: Checksum | None
    size: int | None
    """The expected size in bytes."""
    checkpoint: Checkpoint | None
    sent: int
    """Bytes that the attempt before moved."""
    read_back: bool
    """Whether the file is read back from the destination and compared after it was placed."""
    throttle: Throttle | None
    name_target: Callable[[str], Awaitable[None]]
    """Called with the target's path when the source's name has determined it."""
    name: str | None = None
    """The file's name in a target directory; None: the source's name."""
    algorithms: frozenset[str] = frozenset()
    """Digests to compute beside sha256."""
    resumable: bool = True
    """Whether checkpoints are made, so that another attempt can resume."""
    room: RoomReservation | None = None
    """The room that is reserved for it at the destination; None: it needs none of its own."""


@dataclass(frozen=True, slots=True)
class TransferResult:
    """A file that is at its destination, whole and verified."""

    name: str
    """The source's name of the file."""
    target: str
    upload: Upload | None
    """The upload to commit; None: the target was there already."""
    token: str | None
    """The token from which any process can make ``upload`` again; None: the file is in place."""
    size: int
    digests: dict[str, str]
    """Algorithm -> hex; sha256 is always among them."""
    modified: float | None
    without: tuple[Lack, ...] = ()
    """The attributes and guarantees that the destination did not provide so far."""
    over: str | None = None
    """The identity of the target that was compared and is to be replaced, "" for nothing; None: whatever is there."""
    doubtful: bool = False
    """The upload was resumed in a way that may have lost earlier bytes: it is read back as with ``read_back``."""

    @property
    def already_there(self) -> bool:
        return self.upload is None

    @property
    def digest(self) -> str:
        return f"{MAIN}:{self.digests[MAIN]}"


@dataclass(frozen=True, slots=True)
class TransferTools:
    """The dependencies of every transfer of this process."""

    clock: IReactorTime
    pools: Pools
    settings: Transfers
    installation: str

    def digest(self, algorithms: Iterable[str] = ()) -> Digest:
        """Return a new digest."""
        return Digest(self.pools.digests.executor, algorithms)
