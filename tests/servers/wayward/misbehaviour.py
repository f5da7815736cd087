"""The misbehaviours of an SFTP server, as values that configure ``Wayward``."""

import posixpath
from collections.abc import Collection
from dataclasses import asdict, dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

OPEN, CLOSE, READ, WRITE = "OPEN", "CLOSE", "READ", "WRITE"
STAT, LSTAT, FSTAT, SETSTAT, FSETSTAT = "STAT", "LSTAT", "FSTAT", "SETSTAT", "FSETSTAT"
MKDIR, RMDIR, REMOVE, RENAME, REALPATH = "MKDIR", "RMDIR", "REMOVE", "RENAME", "REALPATH"
OPENDIR, READDIR = "OPENDIR", "READDIR"
POSIX_RENAME, HARD_LINK, FSYNC = "posix-rename@openssh.com", "hardlink@openssh.com", "fsync@openssh.com"
STATVFS, LIMITS = "statvfs@openssh.com", "limits@openssh.com"

EXTENSIONS = (POSIX_RENAME, HARD_LINK, FSYNC, STATVFS, LIMITS)
REQUESTS = (
    *(OPEN, CLOSE, READ, WRITE, STAT, LSTAT, FSTAT, SETSTAT, FSETSTAT),
    *(MKDIR, RMDIR, REMOVE, RENAME, REALPATH, OPENDIR, READDIR),
    *EXTENSIONS,
)
"""All requests of SFTP, except those for symbolic links and locks, which datamover does not use."""

NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, OP_UNSUPPORTED = 2, 3, 4, 5, 8
NO_SPACE, QUOTA = 14, 15
"""Status codes of later versions of SFTP, which servers send in version 3 too."""


class Way(Enum):
    """What the server does instead; ``amount`` is the misbehaviour's."""

    REFUSES = "refuses"
    """Does nothing, and answers the misbehaviour's code and message."""
    DOES_AND_REFUSES = "does and refuses"
    """Does what was requested, and answers the misbehaviour's code and message."""
    IGNORES = "ignores"
    """Answers OK and does nothing; only for requests whose answer is a status."""
    HANGS = "hangs"
    """Never answers."""
    CUTS = "cuts"
    """Breaks the connection, and does nothing."""
    DOES_AND_CUTS = "does and cuts"
    """Does what was requested, and breaks the connection before the answer."""

    AT_CLOSE = "at close"
    """OPEN for writing: the file appears under its name, with what was written, only when it is closed."""
    TRUNCATES = "truncates"
    """OPEN for writing: the file is emptied, whatever the flags."""
    KEEPS_BELOW = "keeps below"
    """WRITE, CLOSE: answers OK; bytes from offset ``amount`` on are not stored."""
    KEEPS_HALF = "keeps half"
    """WRITE: answers OK and stores the first half of the bytes. CLOSE: cuts the file to its first half."""
    CORRUPTS = "corrupts"
    """WRITE: answers OK and stores other bytes of the same number."""
    IN_ORDER = "in order"
    """WRITE: refuses an offset other than the end of the handle's last write, and a second handle of the file."""

    EMPTY_AT_END = "empty at end"
    """READ: at the end it answers empty data instead of EOF."""
    SHORT = "short"
    """READ: answers ``amount`` bytes at most."""
    FALSE = "false"
    """READ: answers other bytes than the file has."""

    NO_SIZE = "no size"
    """STAT, LSTAT, FSTAT: answers without a size."""
    NO_TIMES = "no times"
    NO_MODE = "no mode"
    SHIFTS_TIMES = "shifts times"
    """STAT, LSTAT, FSTAT: answers times that are ``amount`` seconds later."""
    TELLS = "tells"
    """STAT, LSTAT, FSTAT: answers ``amount`` as a file's size; statvfs: as the free bytes; limits: as each length."""

    REPLACES = "replaces"
    """RENAME: replaces what has the new name, as pkg/sftp does."""
    COPIES = "copies"
    """RENAME, posix-rename: the file has both names afterwards."""
    ECHOES = "echoes"
    """REALPATH: answers the requested path without following links, whatever exists."""
    LISTS_NOTHING = "lists nothing"
    """READDIR."""


_LOOKS = (STAT, LSTAT, FSTAT)
_OK = (CLOSE, WRITE, SETSTAT, FSETSTAT, MKDIR, RMDIR, REMOVE, RENAME, POSIX_RENAME, HARD_LINK, FSYNC)
"""Requests whose answer is a status."""
_ONLY = {
    Way.IGNORES: _OK,
    Way.AT_CLOSE: (OPEN,),
    Way.TRUNCATES: (OPEN,),
    Way.KEEPS_BELOW: (WRITE, CLOSE),
    Way.KEEPS_HALF: (WRITE, CLOSE),
    Way.CORRUPTS: (WRITE,),
    Way.IN_ORDER: (WRITE,),
    Way.EMPTY_AT_END: (READ,),
    Way.SHORT: (READ,),
    Way.FALSE: (READ,),
    Way.NO_SIZE: _LOOKS,
    Way.NO_TIMES: _LOOKS,
    Way.NO_MODE: _LOOKS,
    Way.SHIFTS_TIMES: _LOOKS,
    Way.TELLS: (*_LOOKS, STATVFS, LIMITS),
    Way.REPLACES: (RENAME,),
    Way.COPIES: (RENAME, POSIX_RENAME),
    Way.ECHOES: (REALPATH,),
    Way.LISTS_NOTHING: (READDIR,),
}


def ways_of(request: str) -> list[Way]:
    """Return the Ways that a request can have."""
    return [way for way in Way if request in _ONLY.get(way, REQUESTS)]


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """One deviation of a server."""

    request: str
    """One of ``REQUESTS``."""
    way: Way = Way.REFUSES
    code: int = FAILURE
    words: str = "not today"
    amount: int = 0
    having: str | None = None
    """Only requests with this property. OPEN: "reading", "writing", "create", "exclusive", "truncate". Requests that
    set attributes: "size", "mode", "times". READ and WRITE: "large", above 32 KiB. CLOSE: "directory", "reading" or
    "writing". Requests with a path: "there" or "missing"."""
    user: str = ""
    """Only for this user; "": for all."""
    below: str = ""
    """Only for this path and those below it, relative to the server's root; "": for all."""
    name: str = "*"
    """Only for names, without their directories, that match this pattern."""
    nth: int | None = None
    """Only the n-th request that matches all of the above, counted from 1."""

    def __post_init__(self) -> None:
        assert self.way in ways_of(self.request), f"{self.request} cannot be done so: {self.way}"

    def fits(self, user: str, request: str, paths: Collection[str], tags: Collection[str]) -> bool:
        """Tell whether it matches such a request of one of these paths, relative to the root."""
        return (
            request == self.request
            and self.user in ("", user)
            and (self.having is None or self.having in tags)
            and any(self._is_about(path) for path in paths)
        )

    def _is_about(self, path: str) -> bool:
        below = not self.below or path == self.below or path.startswith(f"{self.below}/")
        return below and fnmatchcase(posixpath.basename(path), self.name)

    def __str__(self) -> str:
        amount = f" {self.amount}" if self.amount else ""
        answer = f" by status {self.code}" if "refuses" in self.way.value else ""
        having = f" with {self.having}" if self.having else ""
        nth = f", at the {self.nth}." if self.nth else ""
        return f"{self.request}{having} {self.way.value}{amount}{answer}{nth}"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "way": self.way.value}

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> "Misbehaviour":
        return cls(**{**told, "way": Way(told["way"])})
