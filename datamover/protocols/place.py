"""The interface of a registered destination, and the declaration of a protocol that serves destinations."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from datamover.errors import Scope
from datamover.protocols.base import Ability, Inspection, Lack, Origin
from datamover.protocols.upload import Check, Saved, Upload, UploadKey


class Place(Protocol):
    """A registered root and the names below it, as seen from one side.

    Every path is relative to the root, its segments joined by "/", free of "..", of NUL and of a leading "/".
    Missing directories of a written path are made. No path is followed out of the root (PathNotAllowedHere).
    """

    async def inspect(self, path: str) -> Inspection | None:
        """Inspect one name; None where there is nothing."""
        ...

    def origin(self, path: str) -> Origin: ...

    @property
    def lacks(self) -> Container[Ability]:
        """What this side does not do: what its protocol does not declare, and what was learnt."""
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
        """Return a new upload of ``target``; ``size`` in bytes where it is known, ``modified`` in POSIX seconds.

        ``sha256`` is the digest that the whole file must have, in hex, where it is known before: a side that keeps
        such a thing beside a file tells it from then on (``Inspection.digests``).
        """
        ...

    def resume(self, target: str, saved: Saved, *, size: int | None = None, modified: float | None = None) -> Upload:
        """Return the upload of ``target`` that an earlier attempt saved, to continue, commit or abort it."""
        ...

    async def sweep(
        self, target: str, transfer: str, *, check: Check, keep: str | None = None, since: float | None = None
    ) -> None:
        """Remove what uploads of ``target`` with a key of ``transfer`` left, except that of the token ``keep``.

        A ``target`` that ends in "/" (or is the root's, "") stands for those of any target right below it. ``check``
        is called before each request that changes something. No two transfers have uploads of one target at a time,
        and this one has none that is older than ``since`` (POSIX seconds; None: that is not known).
        """
        ...

    async def remove(self, path: str) -> None:
        """Remove one file; a missing one is fine."""
        ...

    async def list(self, path: str) -> list[str]:
        """Return the names in a directory, without "." and ".."; an empty list where there is none."""
        ...

    async def free(self) -> int | None:
        """Return the bytes that may still be written, None where the side does not tell."""
        ...


class DestinationPool(Protocol):
    """The connections to one registered destination, shared by every transfer that touches it."""

    def at(self, side: Scope) -> Place:
        """Return the place as seen from ``side``; both sides share the connections."""
        ...

    @property
    def lacks(self) -> Iterable[Lack]:
        """What the protocol declares and this side was found not to do, or is not known to be able to so far."""
        ...

    async def connect(self) -> None:
        """Make sure of a connection, authenticated; raises what a transfer would meet."""
        ...

    async def close(self) -> None:
        """Close every connection; completes when they are gone."""
        ...


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """An upload that stands at a side, neither committed nor aborted, and may be paid for there."""

    path: str
    """Below the root."""
    since: str
    """As the side tells it."""
    upload: str
    """The side's number of it."""

    @property
    def sentence(self) -> str:
        return (
            f"an upload of {self.path!r}, begun at {self.since}, is not completed, and no transfer here is known to go "
            f"on with it: unless another program writes with this login, abort it at the service: {self.upload}"
        )

    def as_dict(self) -> dict[str, str]:
        """Return what is told of it: ``{path, message}``."""
        return {"path": self.path, "message": self.sentence}


@runtime_checkable
class TellsUploads(Protocol):
    """A pool whose side tells which uploads stand there."""

    async def unfinished_uploads(self) -> Sequence[UnfinishedUpload]:
        """Return the oldest uploads below the root that were begun with this login; raises errors of the side."""
        ...


@runtime_checkable
class TellsVolume(Protocol):
    """A pool whose side tells where its room is."""

    server: str
    """Whose room it is; pools of other servers, or of other protocols, are not asked whether they share it."""

    async def volume(self) -> str | None:
        """Return what all pools of this protocol and server have in common that share their room, None if not known.

        Raises errors of the side.
        """
        ...


class ProtocolOptions(BaseModel):
    """The keys of a ``[destinations.NAME]`` table that its protocol asks for; each protocol has its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=False)


@dataclass(frozen=True, slots=True)
class PlaceSettings:
    """What the registry tells a protocol of a destination, beside the protocol's own options."""

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
    """What a package of ``protocols`` declares of a protocol that destinations may use."""

    name: ClassVar[str]
    schemes: ClassVar[tuple[str, ...]]
    """Of the URLs of destinations."""
    other_schemes: ClassVar[tuple[str, ...]]
    """Of other URLs that name such files: who gives one as a source is told to name the registered place."""
    abilities: ClassVar[frozenset[Ability]]
    counts_arriving: ClassVar[bool]
    """Whether ``Place.free`` counts what has arrived of a file as used before the file is committed."""
    longest_name: ClassVar[int]
    """Bytes in UTF-8 of one segment of a path, at most; the other side may take fewer."""
    options: ClassVar[type[ProtocolOptions]]
    """Options that name files that hold secrets are of the type ``security.secret_files.SecretPath``."""

    def check_url(self, url: str) -> None:
        """Raise ValueError, with what was expected, for a destination URL that cannot be used."""
        ...

    def root(self, url: str) -> str:
        """Return the absolute path that a destination URL names as its root, "/" included."""
        ...

    def host(self, url: str) -> str | None:
        """Return the host of a destination URL, "" where that names none, None for a local one."""
        ...

    def user(self, url: str) -> str | None:
        """Return the user that a destination URL names, None where it names none."""
        ...

    def open(self, settings: PlaceSettings, options: Any, reactor: Any) -> DestinationPool:
        """Return the pool for one destination; connects only when first used.

        Raises ConfigError, which begins with the key ("destinations.NAME.ca_file"), for a file that cannot be used.
        """
        ...


@runtime_checkable
class NamedByUrl(Protocol):
    """A protocol whose files have other URLs, too, which clients of the original's ``move`` give."""

    def named(
        self, destination: str, options: Any, scheme: str, host: str | None, user: str | None, path: str
    ) -> str | None:
        """Return the absolute path that ``scheme://[user@]host/path`` names at a destination, None for no file there.

        ``destination`` is the destination's URL; ``host`` None is its own; ``user`` and ``path`` are decoded.
        """
        ...
