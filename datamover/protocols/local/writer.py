"""Blocking, positional writes to one file of a local disk; the body of a large one goes past the page cache."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from datamover.protocols.base import Octets
from datamover.protocols.local.descriptors import close, set_modified
from datamover.protocols.local.direct import BLOCK, Direct

CACHED = 16 * 2**20
"""Bytes from a file's beginning that go through the page cache: a file of that size is likely to be read soon."""
_ROOM = 2**20
"""Bytes of the largest write past the cache, which waits for the disk: large, so that it waits seldom."""
_AT_ONCE = 1024
"""Pieces that one call of the kernel takes (IOV_MAX)."""

Pieces = Sequence[Octets | memoryview]


class Writer:
    """Writes bytes that follow one another; after a call that failed every other fails with it."""

    def __init__(self, descriptor: int, offset: int) -> None:
        """Write to ``descriptor``, which is closed with the writer, from ``offset`` on."""
        self._descriptor = descriptor
        self._offset = offset
        self._cached = CACHED
        self._direct: Direct | None = None
        self._failure: OSError | None = None

    def put(self, chunks: Sequence[Octets]) -> int:
        """Take bytes and return the offset after the last; what they are written with may come after them."""
        with self._once_failed_always():
            left: Pieces = chunks
            if self._direct is None and self._offset >= self._cached:
                left = self._go_direct(chunks)
            if self._direct is None:
                self._write(left)
            else:
                self._direct.put(left)
                self._offset += _size(left)
        return self._offset

    def drain(self, chunks: Sequence[Octets]) -> int:
        """Write these bytes and all before them; return the offset after the last. Zeros may follow in the file."""
        self.put(chunks)
        with self._once_failed_always():
            if self._direct is not None:
                self._direct.drain()
        return self._offset

    def sync(self) -> None:
        """Flush what was written; may be called while ``put`` runs in another thread."""
        # The kernel forgets what it could not write: a second fsync would succeed, and lie.
        with self._once_failed_always():
            os.fsync(self._descriptor)

    def finish(self, chunks: Sequence[Octets], mode: int, modified: float | None) -> int:
        """Write these bytes, end the file there, set mode and time, flush, close; return the size."""
        self.put(chunks)
        with self._once_failed_always():
            if self._direct is not None:
                self._direct.end()
            os.ftruncate(self._descriptor, self._offset)
            os.fchmod(self._descriptor, mode)
            if modified is not None:
                set_modified(self._descriptor, modified)
        self.sync()
        size = os.fstat(self._descriptor).st_size
        self.close()
        return size

    def close(self) -> None:
        """Close the file, if ``finish`` has not done so."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            close(descriptor)

    def _go_direct(self, chunks: Pieces) -> Pieces:
        """Begin to write past the cache at the next block, if one begins here; return what is not yet written."""
        head, rest = _split(chunks, -self._offset % BLOCK)
        self._write(head)
        if not rest:
            return rest
        room = min(_size(rest), _ROOM) // BLOCK * BLOCK
        direct = Direct(self._descriptor, self._offset, max(room, BLOCK))
        if direct.begin():
            self._direct = direct
        else:
            self._cached = sys.maxsize
        return rest

    def _write(self, chunks: Pieces) -> None:
        left = chunks
        while left:
            written = os.pwritev(self._descriptor, left[:_AT_ONCE], self._offset)
            self._offset += written
            left = _split(left, written)[1]

    @contextmanager
    def _once_failed_always(self) -> Iterator[None]:
        if self._failure is not None:
            raise self._failure
        try:
            yield
        except OSError as failure:
            self._failure = self._failure or failure
            raise


def _size(pieces: Pieces) -> int:
    return sum(map(len, pieces))


def _split(pieces: Pieces, size: int) -> tuple[Pieces, Pieces]:
    """Return the first ``size`` bytes of pieces, and what is left of them."""
    for number, piece in enumerate(pieces):
        if size < len(piece):
            view = memoryview(piece)
            return [*pieces[:number], view[:size]], [view[size:], *pieces[number + 1 :]]
        size -= len(piece)
    return pieces, []
