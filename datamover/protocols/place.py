"""The interface of a registered destination, and the declaration of a protocol that serves destinations."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from datamover.errors import Scope
from datamover.protocols.base import Ability, Inspection, Lack, Origin
from datamover.protocols.upload import Check, Saved, Upload, UploadKey


class Place(Protocol):
    """The files of a destination, below its root; errors have the scope of one side.

    A path is relative to the root: segments joined by "/", without "..", NUL and a leading "/". Writing makes missing
    directories. A path that leads out of the root raises PathNotAllowedHere.
    """

    async def inspect(self, path: str) -> Inspection | None:
        """Inspect one path; None if nothing is there."""
        ...

    def origin(self, path: str) -> Origin: ...

    @property
    def lacks(self) -> Container[Ability]:
        """The abilities that it lacks: those that its protocol does not declare, and those found missing."""
        ...

    def begin(
        self,
        target: str,
        key: UploadKey,
        *,
        size: int | None = None,
        modified: float | None = None,
        sha256: str | None = None,
    ) -> Upload:
        """Return a new upload of ``target``; ``size`` is in bytes, if known, ``modified`` in POSIX seconds.

        ``sha256`` is the digest that the whole file must have, in hex, if known: a side that stores metadata with a
        file reports it from then on (``Inspection.digests``).
        """
        ...

    def resume(self, target: str, saved: Saved, *, size: int | None = None, modified: float | None = None) -> Upload:
        """Return the upload of ``target`` that an earlier attempt saved, to continue, commit or abort it."""
        ...

    async def sweep(
        self, target: str, transfer: str, *, check: Check, keep: str | None = None, since: float | None = None
    ) -> None:
        """Remove the leftovers of a transfer's uploads of ``target``, except the upload with the token ``keep``.

        A ``target`` that ends in "/", or is "", stands for every target directly below that directory. ``check`` is
        called before each request that changes something. No two transfers have uploads of one target at a time, and
        this one has none that is older than ``since`` (POSIX seconds; None: unknown).
        """
        ...

    async def remove(self, path: str) -> None:
        """Remove one file; do nothing if it is missing."""
        ...

    async def list(self, path: str) -> list[str]:
        """Return the names in a directory, without "." and ".."; an empty list if there is no directory."""
        ...

    async def free(self) -> int | None:
        """Return how many bytes may still be written, None if the side does not report it."""
        ...


class DestinationPool(Protocol):
    """The connections to one destination, shared by all its transfers."""

    def at(self, side: Scope) -> Place:
        """Return the place for use as ``side``, SOURCE or DESTINATION; both share the connections."""
        ...

    @property
    def lacks(self) -> Iterable[Lack]:
        """The abilities that the protocol declares and that this destination lacks, or is not yet known to have."""
        ...

    async def connect(self) -> None:
        """Complete when there is a connection that is logged in; raises what a transfer would raise."""
        ...

    async def close(self) -> None:
        """Close all connections; completes when they are closed."""
        ...


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """An upload that a service holds, neither committed nor aborted, and may charge for."""

    path: str
    """Below the root."""
    since: str
    """When it began, as the service writes it."""
    upload: str
    """The service's id of it."""

    @property
    def sentence(self) -> str:
        return (
            f"an upload of {self.path!r}, begun at {self.since}, is not completed, and no transfer here is known to go "
            f"on with it: unless another program writes with this login, abort it at the service: {self.upload}"
        )

    def as_dict(self) -> dict[str, str]:
        """Return it as clients see it: ``{path, message}``."""
        return {"path": self.path, "message": self.sentence}


@runtime_checkable
class TellsUploads(Protocol):
    """A pool whose service lists its unfinished uploads."""

    async def unfinished_uploads(self) -> Sequence[UnfinishedUpload]:
        """Return the oldest uploads below the root that were begun with this login; raises errors of the side."""
        ...


@runtime_checkable
class TellsVolume(Protocol):
    """A pool that can be asked which volume (file system, account) its files are stored on."""

    server: str
    """The server that has the volume; only pools of one protocol and one server can share a volume."""

    async def volume(self) -> str | None:
        """Return an id of the volume, None if unknown; pools with one id share its room. Raises errors of the side."""
        ...


class ProtocolOptions(BaseModel):
    """The keys of a ``[destinations.NAME]`` table that belong to its protocol; each protocol derives its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class PlaceSettings:
    """The settings of a destination that all protocols share."""

    name: str
    url: str
    file_mode: int
    directory_mode: int
    connect_timeout: float
    """Seconds."""
    idle_timeout: float
    """Seconds without an answer after which a request in flight has failed (Stalled)."""
    read_back: bool = False
    """What was written is read afterwards (``verify = "read-back"``)."""


class PlaceProtocol(Protocol):
    """The declaration of a protocol that destinations may use."""

    name: ClassVar[str]
    schemes: ClassVar[tuple[str, ...]]
    """The schemes of its destinations' URLs."""
    other_schemes: ClassVar[tuple[str, ...]]
    """Further schemes of URLs for such files; a client that gives one as a source is told to name the destination."""
    abilities: ClassVar[frozenset[Ability]]
    counts_arriving: ClassVar[bool]
    """Whether ``Place.free`` counts what has arrived of a file as used before the file is committed."""
    longest_name: ClassVar[int]
    """Bytes in UTF-8 of one segment of a path, at most; the other side may take fewer."""
    options: ClassVar[type[ProtocolOptions]]
    """An option that names a file with a secret has the type ``security.secret_files.SecretPath``."""

    def check_url(self, url: str) -> None:
        """Raise ValueError, whose message says what was expected, if a destination cannot have this URL."""
        ...

    def root(self, url: str) -> str:
        """Return the root that a destination's URL names, as an absolute path."""
        ...

    def host(self, url: str) -> str | None:
        """Return the host of a destination's URL, "" if it names none, None for a local one."""
        ...

    def user(self, url: str) -> str | None:
        """Return the user that a destination's URL names, None if it names none."""
        ...

    def open(self, settings: PlaceSettings, options: Any, reactor: Any) -> DestinationPool:
        """Return the pool for one destination; connects only when first used.

        Raises ConfigError, which begins with the key ("destinations.NAME.ca_file"), for a file that cannot be used.
        """
        ...


@runtime_checkable
class NamedByUrl(Protocol):
    """A protocol whose files have further URLs, which clients of the original's ``move`` may give."""

    def named(
        self, destination: str, options: Any, scheme: str, host: str | None, user: str | None, path: str
    ) -> str | None:
        """Return the absolute path at a destination that ``scheme://[user@]host/path`` names, None if it names none.

        ``destination`` is the destination's URL; a ``host`` of None means its own; ``user`` and ``path`` are decoded.
        """
        ...
