"""Direct I/O (``O_DIRECT``, open(2)): whole blocks of one file, written past the kernel's page cache.

The cache does little for a large file that is written once and flushed: each byte is copied into a page that has to be
found for it, and pushes out what others keep there. The disk wants addresses, sizes and memory in whole blocks.
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
"""ext4, XFS, Btrfs, F2FS, overlayfs, bcachefs, by their numbers in statfs(2).

Others (network file systems, FUSE) may want their bytes once and in order, which blocks that are written again are not.
"""
_REFUSALS = (errno.EINVAL, errno.EOPNOTSUPP)
"""How file systems say that they cannot, or not so."""


def on_disk(descriptor: int) -> bool:
    """Tell whether an open file is on a disk's own file system, and not on a network's or a program's."""
    return file_system(descriptor) in _DISKS


class Direct:
    """Blocking writes that follow one another from a multiple of ``BLOCK`` on; what is less than ``room`` is held."""

    def __init__(self, descriptor: int, offset: int, room: int) -> None:
        """Prepare to write from ``offset``; ``room`` is a multiple of ``BLOCK``."""
        self._descriptor = descriptor
        self._offset = offset
        self._room = room
        # Aligned to a page, and shared: open(2) warns of private memory in a process that forks meanwhile.
        self._memory = memoryview(mmap.mmap(-1, room, flags=mmap.MAP_SHARED))
        self._held = 0

    def begin(self) -> bool:
        """Turn the cache off for the file; returns whether its file system is a disk's, and lets that be."""
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
        """Take bytes, and write what fills the room."""
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
        """Write what is held too, its last block filled up with zeros: what comes later is written over them."""
        size = -(-self._held // BLOCK) * BLOCK
        self._memory[self._held : size] = bytes(size - self._held)
        self._write(size)

    def end(self) -> None:
        """Write what is held, and turn the cache on again."""
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
                # It wants larger blocks, or only pretended: then through the cache, where any size will do.
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
