"""Parse and build the packets of SFTP version 3, for a server."""

import os
import struct
from dataclasses import dataclass
from typing import Any

VERSION, STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED_REPLY = 2, 101, 102, 103, 104, 105, 201
NUMBER = struct.Struct(">L")
LONG = struct.Struct(">Q")

_SIZE, _OWNER, _MODE, _TIMES = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes of a file in an answer or a request; None is "not given"."""

    size: int | None = None
    mode: int | None = None
    times: tuple[int, int] | None = None
    """POSIX seconds, of the last access and of the last change."""

    @property
    def tags(self) -> set[str]:
        """The names of the given attributes."""
        said = (("size", self.size), ("mode", self.mode), ("times", self.times))
        return {name for name, value in said if value is not None}

    def packed(self) -> bytes:
        flags, values = 0, b""
        if self.size is not None:
            flags, values = flags | _SIZE, values + LONG.pack(self.size)
        if self.mode is not None:
            flags, values = flags | _MODE, values + NUMBER.pack(self.mode)
        if self.times is not None:
            # 32 bits, unsigned.
            flags, values = flags | _TIMES, values + b"".join(NUMBER.pack(time & 0xFFFFFFFF) for time in self.times)
        return NUMBER.pack(flags) + values


class Reader:
    """Reads one value after another from a packet; raises struct.error if it is too short."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self) -> int:
        return int(self._unpack(NUMBER))

    def long(self) -> int:
        return int(self._unpack(LONG))

    def string(self) -> bytes:
        size = self.number()
        self._at += size
        return self._data[self._at - size : self._at]

    def path(self) -> str:
        return os.fsdecode(self.string())

    def attributes(self) -> Attributes:
        flags = self.number()
        size = self.long() if flags & _SIZE else None
        if flags & _OWNER:
            self.long()
        mode = self.number() if flags & _MODE else None
        times = (self.number(), self.number()) if flags & _TIMES else None
        return Attributes(size, mode, times)

    def _unpack(self, kind: struct.Struct) -> Any:
        value = kind.unpack_from(self._data, self._at)[0]
        self._at += kind.size
        return value


def string(data: bytes) -> bytes:
    return NUMBER.pack(len(data)) + data
