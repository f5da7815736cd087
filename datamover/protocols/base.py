"""The interface between the engine and every protocol: abilities, and files that are read (``Origin`` -> ``Source``).

Files are written through a ``place.Place``, which returns an ``upload.Upload`` for each. The engine uses only these. A
failure raises an error of ``datamover.errors``, whose scope is the side (source or destination) of the transfer.

Bytes pass in order, from ``Source.read`` to ``Upload.write``; a protocol may have many requests in flight inside. The
engine awaits ``Upload.write`` before it reads on: that is the backpressure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Ability(StrEnum):
    """What a protocol can do; declared, never guessed."""

    READ = "read"
    WRITE = "write"
    LIST = "list"
    RESUME = "resume"
    """Reading or writing may begin at an offset."""
    REPLACE = "replace"
    """A finished file can take the name of an existing one."""
    REPLACE_ATOMICALLY = "replace-atomically"
    """REPLACE, and at every moment the name has either the old file or the new one."""
    KEEP_OLD = "keep-old"
    """A file can have a second name, so that the old file is kept until the new one was checked under its name."""
    REMOVE = "remove"
    SET_MODE = "set-mode"
    SET_MODIFIED = "set-modified"
    FLUSH = "flush"
    """The side can be asked to write a file to its disk, and answers when that is done."""
    FREE_SPACE = "free-space"
    """The side can be asked how much room is left."""
    WRITE_WIDE = "write-wide"
    """One file can be written by several requests at a time, in any order."""


_WITHOUT = {
    Ability.READ: "what is stored cannot be read at once",
    Ability.RESUME: "an interrupted upload cannot be continued",
    Ability.REPLACE_ATOMICALLY: "not replaced in one step",
    Ability.KEEP_OLD: "the old file not kept until the new one was looked at",
    Ability.REMOVE: "not removed",
    Ability.SET_MODE: "mode not set",
    Ability.SET_MODIFIED: "modification time not set",
    Ability.FLUSH: "not flushed to disk",
    Ability.FREE_SPACE: "free room not known",
    Ability.WRITE_WIDE: "written in order, by one request after the other",
}


UNCONNECTED = "there was no connection yet"
"""The reason why it is not known whether a side has an ability."""


@dataclass(frozen=True, slots=True)
class Lack:
    """An ability that a side does not have, or that one file was stored without."""

    ability: Ability
    why: str
    """What the side answered, as a clause."""

    @property
    def sentence(self) -> str:
        """Say what is missing, and why."""
        return f"{_WITHOUT.get(self.ability, f'no {self.ability.value}')}: {self.why}"

    def as_dict(self) -> dict[str, str]:
        """Return it as clients see it: ``{ability, message}``."""
        return {"ability": self.ability.value, "message": self.sentence}


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a side reports of one file."""

    name: str
    """The last segment of its path, as its side reports it; "" if it has none."""
    size: int | None = None
    """Bytes; None if the side does not report it."""
    identity: str | None = None
    """Opaque; equal identities mean equal bytes. None: a change could not be recognised."""
    modified: float | None = None
    """POSIX seconds."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """The digests that the side publishes: algorithm ("sha256" …) -> lower-case hex."""
    directory: bool = False
    special: bool = False
    """Neither a file nor a directory: a pipe, a socket, a device."""
    lacks: tuple["Lack", ...] = ()
    """What the side could not report of it, and a copy therefore lacks."""
    archived: bool = False
    """It must be restored at the service before it can be read."""


Octets = bytes | bytearray
"""Bytes of a file; they are not changed after they were passed on."""


class Source(Protocol):
    """One file that is being read, in order, from ``offset`` on."""

    @property
    def inspection(self) -> Inspection: ...

    @property
    def offset(self) -> int:
        """Where reading began: the offset that was asked for, or 0 if reading could not be resumed there."""
        ...

    async def read(self) -> Octets:
        """Return the next bytes, b"" at the end. After cancelling, only ``close`` may be called.

        Raises SizeMismatch or ConnectionLost if fewer bytes come than the side announced.
        """
        ...

    async def close(self) -> None:
        """Release everything; may be called at any time and more than once."""
        ...


class Origin(Protocol):
    """Something that can be read: a URL, or a file in a place."""

    async def inspect(self) -> Inspection:
        """Inspect it without reading its content. Raises SourceNotFound, SourceForbidden and connection errors."""
        ...

    async def open(self, offset: int = 0, identity: str | None = None) -> Source:
        """Open it for reading, from ``offset`` if the file still has ``identity``, else from 0."""
        ...
