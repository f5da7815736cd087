"""Blocking reads of one local file, which must not change meanwhile."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from datamover.concurrency.buffer_budgets import Buffers
from datamover.protocols.base import Inspection
from datamover.protocols.local.descriptors import close

CHUNKS = Buffers(8 * 2**20, least=2**17, most=2**20)
"""Bytes of one read: many, because each needs a call in a thread."""


def examine(name: str, status: os.stat_result) -> Inspection:
    """Return the Inspection of a file called ``name``; only a regular file has size and identity."""
    if not stat.S_ISREG(status.st_mode):
        directory = stat.S_ISDIR(status.st_mode)
        return Inspection(name, modified=status.st_mtime, directory=directory, special=not directory)
    return Inspection(name, status.st_size, _identity(status), status.st_mtime)


def _identity(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"


class LocalReader:
    """Reads a regular file from an offset to its end."""

    def __init__(self, descriptor: int, status: os.stat_result, offset: int, changed: Callable[[], Exception]) -> None:
        self._descriptor = descriptor
        # Some mounts report a size of 0 for files that are not empty; these are read until they end.
        self._size = status.st_size or (None if os.pread(descriptor, 1, 0) else 0)
        self._identity = _identity(status)
        self._changed = changed
        self._position = offset
        self.ended = False
        """Whether all bytes were read."""

    @property
    def tells_size(self) -> bool:
        return self._size is not None

    def read(self) -> bytes:
        """Return the next bytes. When it returns the last ones, the file has not changed since it was opened."""
        if self._size is None:
            data = os.pread(self._descriptor, CHUNKS.size, self._position)
            self._position += len(data)
            self.ended = not data
            return data
        wanted = min(CHUNKS.size, self._size - self._position)
        data = os.pread(self._descriptor, wanted, self._position)
        if len(data) < wanted:
            raise self._changed()
        self._position += wanted
        self.ended = self._position == self._size
        if self.ended and (
            _identity(os.fstat(self._descriptor)) != self._identity or os.pread(self._descriptor, 1, self._size)
        ):
            raise self._changed()
        return data

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        close(descriptor)


@dataclass(frozen=True, slots=True)
class Opened:
    """A file open for reading, with its first bytes read."""

    reader: LocalReader
    first: bytes
    inspection: Inspection
    offset: int
