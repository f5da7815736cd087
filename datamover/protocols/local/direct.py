"""Direct I/O (``O_DIRECT``, open(2)): write one file in whole blocks, without the kernel's page cache.

The cache is of little use to a large file that is written once and flushed: making room for it costs time, and evicts
what other programs have cached. Offsets, sizes and memory addresses must be multiples of a block.
"""

import errno
import mmap
import os
from collections.abc import Sequence
from fcntl import F_GETFL, F_SETFL, fcntl

from datamover.protocols.base import Octets
from datamover.protocols.local.syscalls import file_system

BLOCK = 4096
"""Bytes; every disk of today takes multiples of it."""
_FLAG = getattr(os, "O_DIRECT", 0)
_DISKS = {0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x794C7630, 0xCA451A4E}
"""ext4, XFS, Btrfs, F2FS, overlayfs, bcachefs: their numbers in statfs(2).

Others (network file systems, FUSE) may accept bytes only once and in order; here the last block may be written twice.
"""
_REFUSALS = (errno.EINVAL, errno.EOPNOTSUPP)
"""The errors of file systems that have no direct I/O, or need larger blocks for it."""


def on_disk(descriptor: int) -> bool:
    """Tell whether an open file is on the file system of a disk, not of a network or a program (FUSE)."""
    return file_system(descriptor) in _DISKS


class Direct:
    """Writes bytes in order, ``room`` at a time; fewer are held in memory. The calls block."""

    def __init__(self, descriptor: int, offset: int, room: int) -> None:
        """Prepare to write from ``offset``; both numbers are multiples of ``BLOCK``."""
        self._descriptor = descriptor
        self._offset = offset
        self._room = room
        # Aligned to a page; shared, because private memory is unsafe if the process forks meanwhile (open(2)).
        self._memory = memoryview(mmap.mmap(-1, room, flags=mmap.MAP_SHARED))
        self._held = 0

    def begin(self) -> bool:
        """Turn the cache off for the file; return False if its file system is not a disk's, or cannot do it."""
        if not on_disk(self._descriptor):
            return False
        try:
            self._switch(on=True)
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            return False
        return bool(_FLAG)

    def put(self, chunks: Sequence[Octets | memoryview]) -> None:
        """Take bytes; write whenever ``room`` of them are held."""
        for chunk in chunks:
            left = memoryview(chunk)
            while left:
                taken = min(len(left), self._room - self._held)
                self._memory[self._held : self._held + taken] = left[:taken]
                self._held += taken
                left = left[taken:]
                if self._held == self._room:
                    self._write(self._room)
                    self._offset += self._room
                    self._held = 0

    def drain(self) -> None:
        """Write the bytes held, too, the last block padded with zeros, which later bytes overwrite."""
        size = -(-self._held // BLOCK) * BLOCK
        self._memory[self._held : size] = bytes(size - self._held)
        self._write(size)

    def end(self) -> None:
        """Write the bytes held, and turn the cache on again."""
        self.drain()
        self._switch(on=False)

    def _write(self, size: int) -> None:
        left, offset = self._memory[:size], self._offset
        while left:
            try:
                written = os.pwrite(self._descriptor, left, offset)
            except OSError as error:
                if error.errno not in _REFUSALS or not self._on:
                    raise
                # It needs larger blocks, or has no direct I/O after all: go on through the cache, which takes any size.
                self._switch(on=False)
                continue
            offset += written
            left = left[written:]

    @property
    def _on(self) -> bool:
        return bool(fcntl(self._descriptor, F_GETFL) & _FLAG)

    def _switch(self, *, on: bool) -> None:
        flags = fcntl(self._descriptor, F_GETFL)
        fcntl(self._descriptor, F_SETFL, flags | _FLAG if on else flags & ~_FLAG)
