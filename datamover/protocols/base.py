"""The interface between the engine and every protocol: abilities, and files that are read (``Origin`` -> ``Source``).

Files are written to a ``place.Place``, which gives an ``upload.Upload`` for each file that arrives. The
engine sees only these. Whatever fails raises an error of ``datamover.errors``, with its scope set to the
side on which it is used.

One ordered stream: bytes come out of ``Source.read`` and go into ``Upload.write`` in order; what a protocol keeps in
flight to be fast stays inside it. Awaiting ``Upload.write`` is the backpressure, not reading is the other half of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol


class Ability(Enum):
    """What a protocol can do; declared, never guessed."""

    READ = "read"
    WRITE = "write"
    LIST = "list"
    RESUME = "resume"
    """A read or a write may begin at an offset."""
    REPLACE = "replace"
    """A finished file can take a name that another file has."""
    REPLACE_ATOMICALLY = "replace-atomically"
    """REPLACE, and the name has the old file or the new one at every moment."""
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
"""Why it is not known whether a side does something."""


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
    """What is known of one file after a look."""

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
    archived: bool = False
    """It can be read only once somebody has had it restored."""


Octets = bytes | bytearray
"""Bytes of a file on their way; whoever hands them over does not change them any more."""


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
