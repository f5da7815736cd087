"""How a mount deviates from a good disk: values that a test chooses and the file system's process reads."""

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
"""The operations, by their names in FUSE. ``flush`` is close(2); ``release`` follows it and returns no error to the
caller. stat(2) and fstat(2) are both ``getattr``; ``ftruncate`` is separate from ``truncate``; ``mknod`` makes files
if the kernel has learnt that there is no ``create``. ``direct`` is an open(2) with O_DIRECT, and a write(2) while that
is set; it is checked before ``open``, ``create`` or ``write``. ``exclusive`` is a rename with a condition
(RENAME_NOREPLACE); it is checked before ``rename``.
"""
_CLOSING = frozenset({"flush", "fsync", "release"})


class Does(Enum):
    """The effect of a call, whatever it returns."""

    ALL = "all"
    """It has its normal effect."""
    NOTHING = "nothing"
    """It has no effect; ``getattr`` returns a size of 0, ``readdir`` no names, ``statfs`` zeros."""
    HALF = "half"
    """``read`` and ``write`` process half of the bytes; ``getattr`` returns half the size."""
    SHORT = "short"
    """Only ``write``: half of the bytes, which is also the count that it returns."""
    LOSES = "loses"
    """It has its effect, and then the file is cut to half its size."""
    CORRUPTS = "corrupts"
    """Only ``write``: other bytes of the same number are stored."""


_HALVED = frozenset({"read", "write", "getattr"})
_LOSING = frozenset({*_CLOSING, "write", "rename", "link", "chmod", "utimens"})
_ANSWERED = frozenset({"create", "open", "opendir", "readlink", "direct", "exclusive"})


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """One operation that deviates, for some paths and a number of times.

    Raises ValueError for the impossible: to open a file without a handle.
    """

    operation: str
    error: str | None = None
    """The name of the errno that is returned; None: success. SIGKILL: the caller is killed, and nothing is returned."""
    does: Does = Does.NOTHING
    path: str = "*"
    """A shell pattern for the path below the mount; ``*`` matches ``/`` too. Of two paths either may match."""
    skip: int = 0
    """Calls that are normal before."""
    times: int = 0
    """Calls that deviate; 0: all."""

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
        """The errno; 0 for success, or if nothing is returned."""
        return 0 if self.error is None or self.kills else int(getattr(errno, self.error))

    def concerns(self, operation: str, paths: Sequence[str]) -> bool:
        """Tell whether a call matches, whatever ``skip`` and ``times`` say."""
        return operation == self.operation and any(fnmatchcase(path, self.path) for path in paths)

    def __str__(self) -> str:
        done = "" if self.does is Does.NOTHING else f" and does {self.does.value}"
        some = f", {self.times} times from the {self.skip + 1}. on" if self.skip or self.times else ""
        return f"{self.operation} says {self.error or 'OK'}{done}{some}"


@dataclass(frozen=True, slots=True)
class Times:
    """How a mount stores modification times, in nanoseconds; the default stores each exactly."""

    step: int = 1
    """The unit to which times are rounded (FAT: two seconds)."""
    earliest: int | None = None
    """The earliest time: earlier ones are stored as this (FAT: 1980)."""
    wrap: int | None = None
    """The bits of seconds in which times are stored, unsigned (32: 1965 becomes 2101)."""
    shift: int = 0
    """What is added to each time (a server whose clock or zone is wrong)."""

    def shown(self, time: int) -> int:
        """Return the time that a file shows after it was set to ``time``."""
        if self.wrap is not None:
            time %= 2**self.wrap * 10**9
        if self.earliest is not None:
            time = max(time, self.earliest)
        return (time + self.shift) // self.step * self.step


GOOD = Times()


@dataclass(frozen=True, slots=True)
class Behaviour:
    """All deviations of a mount."""

    misbehaviours: tuple[Misbehaviour, ...] = ()
    """The first one that matches a call, with ``skip`` and ``times``, applies."""
    times: Times = GOOD

    def as_json(self) -> dict[str, Any]:
        misbehaviours = [{**asdict(each), "does": each.does.value} for each in self.misbehaviours]
        return {"misbehaviours": misbehaviours, "times": asdict(self.times)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Behaviour":
        """Return the Behaviour of which ``as_json`` returned ``data``."""
        misbehaviours = (Misbehaviour(**{**each, "does": Does(each["does"])}) for each in data["misbehaviours"])
        return cls(tuple(misbehaviours), Times(**data["times"]))
