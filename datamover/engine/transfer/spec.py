"""What to move where, and what came of it: the values of one transfer."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from datamover.concurrency.pools import Pools
from datamover.config.schema import Transfers
from datamover.engine.throttle import Throttle
from datamover.engine.transfer.digest import MAIN, Digest
from datamover.jobs.values import Checkpoint, Checksum, Naming, Overwrite
from datamover.protocols.base import Lack, Origin
from datamover.protocols.place import Place
from datamover.protocols.upload import Upload


@dataclass(frozen=True, slots=True)
class TransferSpec:
    """What to move where."""

    transfer: int
    origin: Origin
    source: str
    """The source's name, for people and for the upload's key."""
    place: Place
    path: str
    naming: Naming
    target: str | None
    """The target's path, where an earlier attempt found it out."""
    overwrite: Overwrite
    checksum: Checksum | None
    size: int | None
    """Bytes that are expected."""
    checkpoint: Checkpoint | None
    sent: int
    """Bytes that the attempt before brought."""
    read_back: bool
    """Read the file once more at its destination: the target, after it was placed."""
    throttle: Throttle | None
    name: str | None
    """What the file is called in a directory; None: what the source calls it."""
    algorithms: frozenset[str]
    """Digests to compute beside sha256."""
    resumable: bool
    """Keep what arrived, with a checkpoint, where the attempt breaks off."""
    name_target: Callable[[str], Awaitable[None]]
    """Told the target's path once the source's name decided it."""


@dataclass(frozen=True, slots=True)
class TransferResult:
    """A file that is at its destination, whole and verified."""

    name: str
    """What the source calls it."""
    target: str
    upload: Upload | None
    """What takes the target's name; None: it was there already."""
    token: str | None
    """What any process makes ``upload`` of again; None: it was there already, or is placed."""
    size: int
    digests: dict[str, str]
    """Algorithm -> hex; sha256 is always among them."""
    modified: float | None
    without: tuple[Lack, ...] = ()
    """What the file went without so far."""
    doubtful: bool = False
    """It was written on where that may have lost what was before: it is read back as if that had been asked for."""

    @property
    def already_there(self) -> bool:
        return self.upload is None

    @property
    def digest(self) -> str:
        return f"{MAIN}:{self.digests[MAIN]}"


@dataclass(frozen=True, slots=True)
class TransferTools:
    """What every transfer of this process works with."""

    clock: IReactorTime
    pools: Pools
    settings: Transfers
    installation: str

    def digest(self, algorithms: Iterable[str] = ()) -> Digest:
        """Return a digest that has seen nothing yet."""
        return Digest(self.pools.digests.lane(), algorithms)
