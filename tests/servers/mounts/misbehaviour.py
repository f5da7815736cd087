"""What a mount is to do otherwise than a good disk: values, which a test picks and the file system's process reads."""

import errno
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

OPERATIONS = frozenset(
    {
        *("getattr", "readlink", "readdir", "opendir", "releasedir", "fsyncdir", "statfs"),
        *("mkdir", "rmdir", "mknod", "symlink", "unlink", "rename", "link", "chmod", "chown", "utimens", "truncate"),
        *("create", "open", "read", "write", "ftruncate", "flush", "fsync", "release", "direct", "exclusive"),
    }
)
"""By their names in FUSE. ``flush`` is close(2), ``release`` comes after it and has nobody to tell. A stat(2) and an
fstat(2) both come as ``getattr``, ``ftruncate`` is apart from ``truncate``; ``mknod`` makes files
for a kernel that was told that there is no ``create``. ``direct`` is an open(2) with O_DIRECT,
and a write(2) while that is set, before it is ``open``, ``create`` or ``write``. ``exclusive`` is a rename with a
condition (RENAME_NOREPLACE), before it is ``rename``.
"""
_CLOSING = frozenset({"flush", "fsync", "release"})


class Does(Enum):
    """What becomes of what was asked, whatever is told."""

    ALL = "all"
    """It is done."""
    NOTHING = "nothing"
    """It is not done; a look (``getattr``) tells a file of no bytes, ``readdir`` no names, ``statfs`` zeros."""
    HALF = "half"
    """Of bytes (``read``, ``write``) half; a look tells half the size."""
    SHORT = "short"
    """``write`` alone: half, and that is how many it tells."""
    LOSES = "loses"
    """It is done, and the file is half as long afterwards."""
    CORRUPTS = "corrupts"
    """``write`` alone: as many bytes are kept, but others."""


_HALVED = frozenset({"read", "write", "getattr"})
_LOSING = frozenset({*_CLOSING, "write", "rename", "link", "chmod", "utimens"})
_ANSWERED = frozenset({"create", "open", "opendir", "readlink", "direct", "exclusive"})


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """One operation that is answered otherwise, for some paths, some times.

    Raises ValueError for what no file system could do: to open a file, and give no handle.
    """

    operation: str
    error: str | None = None
    """The name of the errno that is told; None: all is well. SIGKILL: nobody is told, who asks is dead."""
    does: Does = Does.NOTHING
    path: str = "*"
    """A pattern as the shell's, of the path below the mount; ``*`` passes ``/`` too. Of two paths either may match."""
    skip: int = 0
    """Calls that go well before."""
    times: int = 0
    """Calls that go otherwise; 0: every one."""

    def __post_init__(self) -> None:
        possible = {Does.ALL, Does.NOTHING}
        if self.operation in _HALVED:
            possible.add(Does.HALF)
        if self.operation in _LOSING:
            possible.add(Does.LOSES)
        if self.operation == "write":
            possible |= {Does.SHORT, Does.CORRUPTS}
        if self.operation not in OPERATIONS or self.does not in possible:
            raise ValueError(f"no mount does this: {self}")
        if self.error is None and self.does is Does.NOTHING and self.operation in _ANSWERED:
            raise ValueError(f"there is nothing to answer with: {self}")
        if self.error is not None and not self.kills:
            getattr(errno, self.error)

    @property
    def kills(self) -> bool:
        return self.error == signal.SIGKILL.name

    @property
    def number(self) -> int:
        """The errno, 0 where all is well or nobody hears."""
        return 0 if self.error is None or self.kills else int(getattr(errno, self.error))

    def concerns(self, operation: str, paths: Sequence[str]) -> bool:
        """Tell whether a call is one of those meant, ``skip`` and ``times`` aside."""
        return operation == self.operation and any(fnmatchcase(path, self.path) for path in paths)

    def __str__(self) -> str:
        done = "" if self.does is Does.NOTHING else f" and does {self.does.value}"
        some = f", {self.times} times from the {self.skip + 1}. on" if self.skip or self.times else ""
        return f"{self.operation} says {self.error or 'OK'}{done}{some}"


@dataclass(frozen=True, slots=True)
class Times:
    """How a mount keeps modification times, in nanoseconds; the default keeps each as it is."""

    step: int = 1
    """Of which every time is a multiple (FAT: two seconds)."""
    earliest: int | None = None
    """What is before is told as this (FAT: 1980)."""
    wrap: int | None = None
    """Times are kept in so many bits of seconds, without a sign (32: 1965 becomes 2101)."""
    shift: int = 0
    """What is added to each (a server whose clock, or zone, is wrong)."""

    def shown(self, time: int) -> int:
        """Return the time that is told of a file whose time was set to ``time``."""
        if self.wrap is not None:
            time %= 2**self.wrap * 10**9
        if self.earliest is not None:
            time = max(time, self.earliest)
        return (time + self.shift) // self.step * self.step


GOOD = Times()


@dataclass(frozen=True, slots=True)
class Behaviour:
    """All that a mount does otherwise."""

    misbehaviours: tuple[Misbehaviour, ...] = ()
    """The first that concerns a call, and whose time it is, decides on it."""
    times: Times = GOOD

    def as_json(self) -> dict[str, Any]:
        told = [{**asdict(each), "does": each.does.value} for each in self.misbehaviours]
        return {"misbehaviours": told, "times": asdict(self.times)}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> "Behaviour":
        """Read what ``as_json`` gives."""
        misbehaviours = (Misbehaviour(**{**each, "does": Does(each["does"])}) for each in told["misbehaviours"])
        return cls(tuple(misbehaviours), Times(**told["times"]))
