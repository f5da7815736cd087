"""Blocking, positional writes to one local file; all but the beginning of a large one bypasses the page cache."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from datamover.protocols.base import Lack, Octets
from datamover.protocols.lacks import Lacks
from datamover.protocols.local.descriptors import close, describe, flush
from datamover.protocols.local.direct import BLOCK, Direct, on_disk

CACHED = 16 * 2**20
"""Bytes at a file's beginning that go through the page cache: a file of that size is likely to be read soon."""
_ROOM = 2**20
"""Bytes of one direct write: many, because each waits for the disk."""
_AT_ONCE = 1024
"""Buffers that one pwritev(2) takes (IOV_MAX)."""

Pieces = Sequence[Octets | memoryview]


class FileWriter:
    """Writes bytes in order. Once a call has failed, all later ones raise the same error."""

    def __init__(self, descriptor: int, offset: int, lacks: Lacks) -> None:
        """Write to ``descriptor``, which the writer closes, from ``offset`` on."""
        self.without: list[Lack] = []
        """What could not be done for the file; complete after ``finish``."""
        self.doubtful = bool(offset) and not on_disk(descriptor)
        """Whether continuing may lose the bytes before ``offset``: on file systems that are not a disk's."""
        self._lacks = lacks
        self._descriptor = descriptor
        self._offset = offset
        self._cached = CACHED
        self._direct: Direct | None = None
        self._failure: OSError | None = None

    def put(self, chunks: Sequence[Octets]) -> int:
        """Take bytes and return the offset after the last; they may be held until more come."""
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
        """Write these bytes and all before; return the offset after the last. Zeros may follow it in the file."""
        self.put(chunks)
        with self._once_failed_always():
            if self._direct is not None:
                self._direct.drain()
        return self._offset

    def sync(self) -> Lack | None:
        """Flush what was written, if the disk can; may be called while ``put`` runs in another thread."""
        # The kernel reports a failed write-back once; a second fsync would succeed although bytes were lost.
        with self._once_failed_always():
            return flush(self._descriptor, self._lacks)

    def finish(self, chunks: Sequence[Octets], mode: int, modified: float | None) -> int:
        """Write these bytes, end the file there, set mode and time, flush, close; return the size.

        A network file system may raise only at closing that it could not store the bytes (close(2)).
        """
        self.put(chunks)
        with self._once_failed_always():
            if self._direct is not None:
                self._direct.end()
            if os.fstat(self._descriptor).st_size > self._offset:
                os.ftruncate(self._descriptor, self._offset)
            self.without += describe(self._descriptor, mode, modified, self._lacks)
        unflushed = self.sync()
        if unflushed is not None:
            self.without.append(unflushed)
        with self._once_failed_always():
            size = os.fstat(self._descriptor).st_size
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
        return size

    def close(self) -> None:
        """Close the file, if ``finish`` has not done so."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            close(descriptor)

    def _go_direct(self, chunks: Pieces) -> Pieces:
        """Write up to the next block and switch to direct writes there, if possible; return what is not yet written."""
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
    """Return the first ``size`` bytes of pieces, and the rest."""
    for number, piece in enumerate(pieces):
        if size < len(piece):
            view = memoryview(piece)
            return [*pieces[:number], view[:size]], [view[size:], *pieces[number + 1 :]]
        size -= len(piece)
    return pieces, []
