"""The seams between the engine and the protocols: what every way of moving bytes offers.

A protocol reads (``Origin`` -> ``Source``) and, when it can, holds a *place* with names in it (``Place`` ->
``Sink``). The engine sees only these. Whatever goes wrong comes out as an error of ``datamover.errors``, with its
scope set to the side on which the place is used.

One ordered stream: bytes come out of ``Source.read`` and go into ``Sink.write`` in order; what a protocol keeps in
flight to be fast stays inside it. Awaiting ``Sink.write`` is the backpressure, not reading is the other half of it.
"""

from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from datamover.errors import Scope


class Ability(Enum):
    """What a protocol can do; declared, never guessed."""

    READ = "read"
    WRITE = "write"
    LIST = "list"
    RESUME = "resume"
    """A read or a write may begin at an offset."""
    REPLACE = "replace"
    """A finished file takes its name also where another file has it."""
    REPLACE_ATOMICALLY = "replace-atomically"
    """And so that there always is a file of that name, the old one or the new one."""
    KEEP_OLD = "keep-old"
    """A file has a second name for a while: the old one is kept until the new one was looked at under the target's."""
    REMOVE = "remove"
    SET_MODE = "set-mode"
    SET_MODIFIED = "set-modified"
    FLUSH = "flush"
    """What arrived is on disk when the side says so, and not only taken."""
    FREE_SPACE = "free-space"
    """The side tells how much room there is."""
    WRITE_WIDE = "write-wide"
    """One file is written by several requests at a time, in any order."""

    # Members are single; Enum's own hashes their names, in Python, several times for every file.
    __hash__ = object.__hash__


_WITHOUT = {
    Ability.RESUME: "what arrived cannot be written on",
    Ability.REPLACE_ATOMICALLY: "not replaced in one step",
    Ability.KEEP_OLD: "the old file not kept until the new one was looked at",
    Ability.REMOVE: "not removed",
    Ability.SET_MODE: "mode not set",
    Ability.SET_MODIFIED: "modification time not set",
    Ability.FLUSH: "not flushed to disk",
    Ability.FREE_SPACE: "free room not known",
    Ability.WRITE_WIDE: "written in order, by one request after the other",
}


@dataclass(frozen=True, slots=True)
class Lack:
    """Something that a side does not do, or that one file went without."""

    ability: Ability
    why: str
    """What the side answered, for people."""

    @property
    def sentence(self) -> str:
        """Say what is missing, and why."""
        return f"{_WITHOUT.get(self.ability, f'no {self.ability.value}')}: {self.why}"

    def as_dict(self) -> dict[str, str]:
        """Return what is told of it: ``{ability, message}``."""
        return {"ability": self.ability.value, "message": self.sentence}


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a look at one file told."""

    name: str
    """Its own name, one path segment, as its side tells it; "" where there is none."""
    size: int | None = None
    """Bytes; None where the side does not say."""
    identity: str | None = None
    """Opaque; two equal ones mean the same bytes. None: the side gives no sign of a change."""
    modified: float | None = None
    """POSIX seconds."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """What the side publishes of the content: algorithm ("sha256" …) -> lower-case hex."""
    directory: bool = False
    special: bool = False
    """Neither a file nor a directory: a pipe, a socket, a device."""
    lacks: tuple["Lack", ...] = ()
    """What the side could not tell of it, and a copy goes without."""


OLD = ".old"
"""What the hidden name ends in that ``Place.place`` keeps an old file under, after the part file's."""

Octets = bytes | bytearray
"""Bytes of a file on their way; whoever hands them over does not change them any more."""


Prove = Callable[[str], Awaitable[None]]
"""Reads the file at a path below the root to its end; raises an error of the family where it is not what it must be."""


class Source(Protocol):
    """One file being read, in order, from ``offset`` on."""

    @property
    def inspection(self) -> Inspection: ...

    @property
    def offset(self) -> int:
        """Where reading began: what was asked for, or 0 where the side could not or must not resume."""
        ...

    async def read(self) -> Octets:
        """Return the next bytes, b"" at the end. Cancelling leaves the source fit only for ``close``.

        Raises SizeMismatch or ConnectionLost when the side ends before the size it told.
        """
        ...

    async def close(self) -> None:
        """Let go of what is held; may be called at any time and more than once."""
        ...


class Origin(Protocol):
    """Something that can be read: a URL, or a file in a place."""

    async def inspect(self) -> Inspection:
        """Look without reading the content. Raises SourceNotFound, SourceForbidden and connection errors."""
        ...

    async def open(self, offset: int = 0, identity: str | None = None) -> Source:
        """Open for reading from ``offset``, which is honoured only while the file still has ``identity``.

        With an offset the returned source either begins there, with an equal identity, or at 0.
        """
        ...


class Sink(Protocol):
    """One part file being written, in order, from the offset it was opened at."""

    async def write(self, data: Octets) -> None:
        """Take the next bytes; completes when there is room for more, not when they are on disk."""
        ...

    async def flush(self) -> int:
        """Wait until every byte taken so far is durable, as far as the side can promise it; return the offset after it.

        More may be written meanwhile. Cancelling lets go of the answer.
        """
        ...

    async def finish(self, *, modified: float | None) -> int:
        """Flush, set mode and modification time (POSIX seconds), close; return the size the side then tells.

        Raises what closing the file told: some sides say only then that they could not keep it. Bytes that a longer
        predecessor left behind the last one written are cut off.
        """
        ...

    @property
    def without(self) -> Sequence[Lack]:
        """What the file went without, once it is finished."""
        ...

    @property
    def doubtful(self) -> bool:
        """Whether being written on may have lost what stood before the offset, and only reading shows it."""
        ...

    async def close(self) -> None:
        """Let go of what is held and leave the part file; may be called at any time and more than once."""
        ...


class Place(Protocol):
    """A registered root and the names below it, as seen from one side.

    Every path is relative to the root, its segments joined by "/", free of "..", of NUL and of a leading "/".
    Missing directories of a written path are made. No path is followed out of the root (PathNotAllowedHere).
    """

    async def inspect(self, path: str) -> Inspection | None:
        """Look at one name; None where there is nothing."""
        ...

    def origin(self, path: str) -> Origin: ...

    @property
    def lacks(self) -> Container[Ability]:
        """What this side was found not to do."""
        ...

    async def write(self, part: str, *, offset: int = 0) -> Sink:
        """Open the part file ``part`` for writing from ``offset``; offset 0 begins anew, whatever is there.

        An offset beyond what the part file holds, or where the side opens no file to be written on (RESUME is then
        lacking), raises SizeMismatch.
        """
        ...

    async def place(
        self, part: str, target: str, *, size: int, replace: bool, prove: Prove | None = None
    ) -> Sequence[Lack]:
        """Give a finished part file its name, look at it there, and return what it went without.

        Completes when the target is seen to hold ``size`` bytes, ``prove`` has found it right, and its name is durable.
        The part file, as the only other copy, and the old file, where KEEP_OLD is not lacking, are given up only then.
        What is found wrong is taken away and the old file put back: SizeMismatch, or what ``prove`` raises. Where the
        old file cannot be kept, ``prove`` is called with the part file first.

        Replaces in one step, unless REPLACE_ATOMICALLY is lacking: then a crash may leave nothing of the name, and the
        old file hidden beside it until the next ``place`` or ``remove`` of this part file.

        Without ``replace`` an existing target raises DestinationExists and is left alone. A directory in the
        target's place raises DestinationInvalid.
        """
        ...

    async def put(
        self,
        part: str,
        target: str,
        data: bytes,
        *,
        modified: float | None,
        replace: bool,
        commit: Callable[[], None],
    ) -> Sequence[Lack]:
        """Write a whole small file as ``part`` and place it, in as few steps as the side allows.

        Completes when it is durable under ``target``, and was looked at there; returns what it went without.
        ``commit`` is called, maybe in a thread, right before it takes that name; where it raises, it does not. Raises
        what ``write``, ``finish`` and ``place`` raise; after DestinationExists there is no part file. Cancelled, it
        raises once nothing of it is to come any more.
        """
        ...

    async def remove(self, path: str) -> None:
        """Remove one file; a missing one is fine. What ``place`` left hidden beside its target is put back by that."""
        ...

    async def list(self, path: str) -> list[str]:
        """Return the names in a directory, without "." and ".."; an empty list where there is none."""
        ...

    async def free(self) -> int | None:
        """Return the bytes that may still be written, None where the side does not tell."""
        ...


class Pool(Protocol):
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


class Options(BaseModel):
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


class PlaceProtocol(Protocol):
    """What a module of this package declares of a protocol that destinations may use."""

    name: ClassVar[str]
    schemes: ClassVar[tuple[str, ...]]
    abilities: ClassVar[frozenset[Ability]]
    options: ClassVar[type[Options]]

    def check_url(self, url: str) -> None:
        """Raise ValueError, with what was expected, for a destination URL that cannot be used."""
        ...

    def root(self, url: str) -> str:
        """Return the absolute path that a destination URL names as its root, "/" included."""
        ...

    def host(self, url: str) -> str | None:
        """Return the host of a destination URL, None for a local one."""
        ...

    def user(self, url: str) -> str | None:
        """Return the user that a destination URL names, None where it names none."""
        ...

    def open(self, settings: PlaceSettings, options: Any, reactor: Any) -> Pool:
        """Return the pool for one destination; connects only when first used."""
        ...
