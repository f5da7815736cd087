"""One file of a local disk, being read or being written.

``Reader`` and ``Writer`` make the blocking calls; ``LocalSource`` and ``LocalSink`` have them made in threads, in one
lane for each file, with one chunk under way beside the one at hand.
"""

import errno
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred, succeed

from datamover.buffers import Buffers
from datamover.protocols.base import Inspection, Octets
from datamover.protocols.local.refusals import Refusals
from datamover.protocols.local.threads import Lane

CHUNKS = Buffers(8 * 2**20, least=2**17, most=2**20)
"""Bytes of a read, and about those of a write: large, so that a hand-off to a thread costs little for each."""
_AT_ONCE = 1024
"""Pieces that one call of the kernel takes (IOV_MAX)."""


def examine(name: str, status: os.stat_result) -> Inspection:
    """Return what a stat told of ``name``; only a regular file has size and identity."""
    if not stat.S_ISREG(status.st_mode):
        return Inspection(name, modified=status.st_mtime, directory=stat.S_ISDIR(status.st_mode))
    return Inspection(name, status.st_size, _identity(status), status.st_mtime)


def _identity(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"


class Reader:
    """Blocking reads of a regular file that must not change meanwhile."""

    def __init__(self, descriptor: int, status: os.stat_result, offset: int, changed: Callable[[], Exception]) -> None:
        self._descriptor = descriptor
        self._size = status.st_size
        self._identity = _identity(status)
        self._changed = changed
        self._position = offset

    @property
    def ended(self) -> bool:
        return self._position == self._size

    def read(self) -> bytes:
        """Return the next bytes. Whoever gets the last of them knows that the file was whole until then."""
        wanted = min(CHUNKS.size, self._size - self._position)
        data = os.pread(self._descriptor, wanted, self._position)
        if len(data) < wanted:
            raise self._changed()
        self._position += wanted
        if self.ended and (
            _identity(os.fstat(self._descriptor)) != self._identity or os.pread(self._descriptor, 1, self._size)
        ):
            raise self._changed()
        return data

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        _close(descriptor)


class Writer:
    """Blocking, positional writes; after one that failed every other fails with it."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._failure: OSError | None = None

    def put(self, chunks: Sequence[Octets]) -> int:
        """Write, and return the offset after the last byte."""
        if self._failure is not None:
            raise self._failure
        left: list[Octets | memoryview] = list(chunks)
        try:
            while left:
                written = os.pwritev(self._descriptor, left[:_AT_ONCE], self._offset)
                self._offset += written
                left = _after(left, written)
        except OSError as failure:
            self._failure = failure
            raise
        return self._offset

    def sync(self) -> None:
        """Flush what was written; may be called while ``put`` runs in another thread."""
        try:
            os.fsync(self._descriptor)
        except OSError as failure:
            # The kernel forgets what it could not write: a second fsync would succeed, and lie.
            self._failure = self._failure or failure
            raise

    def finish(self, chunks: Sequence[Octets], mode: int, modified: float | None) -> int:
        self.put(chunks)
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
            _close(descriptor)


@dataclass(frozen=True, slots=True)
class Opened:
    """A file open for reading, with its first bytes read."""

    reader: Reader
    first: bytes
    inspection: Inspection
    offset: int


class LocalSource:
    """``protocols.base.Source`` of a local file."""

    def __init__(self, lane: Lane, opened: Opened, path: str, refusals: Refusals) -> None:
        self._lane = lane
        self._reader = opened.reader
        self._ahead: Deferred[bytes] | None = succeed(opened.first)
        self._inspection = opened.inspection
        self._offset = opened.offset
        self._path = path
        self._refusals = refusals
        self._leave = CHUNKS.join()
        self._closed = False

    @property
    def inspection(self) -> Inspection:
        return self._inspection

    @property
    def offset(self) -> int:
        return self._offset

    async def read(self) -> bytes:
        """Return the next bytes, b"" at the end. Raises SourceChanged where the file is not what it was when opened."""
        if self._ahead is None:
            return b""
        with self._refusals.about(self._path):
            data = await self._ahead
        self._ahead = None if self._reader.ended else self._lane.run(self._reader.read)
        return data

    async def close(self) -> None:
        """Close the file, when the read under way has ended."""
        if self._closed:
            return
        self._closed = True
        self._leave()
        _forget(self._ahead)
        self._ahead = None
        await self._lane.run(self._reader.close)


class LocalSink:
    """``protocols.base.Sink`` of a local part file; holds at most one chunk beside the one being written."""

    def __init__(self, lane: Lane, beside: Lane, writer: Writer, mode: int, path: str, refusals: Refusals) -> None:
        """Prepare; what only flushes runs in the lane ``beside``, so that writing goes on."""
        self._lane = lane
        self._beside = beside
        self._writer = writer
        self._mode = mode
        self._path = path
        self._refusals = refusals
        self._gathered: list[Octets] = []
        self._held = 0
        self._writing: Deferred[int] | None = None
        self._leave = CHUNKS.join()
        self._flushed = False
        self._finished = False
        self._closed = False

    async def write(self, data: Octets) -> None:
        """Take the next bytes; waits for the write before the last one. Raises what that one met."""
        self._gathered.append(data)
        self._held += len(data)
        if self._held < CHUNKS.size:
            return
        writing, self._writing = self._writing, None
        if writing is not None:
            with self._refusals.about(self._path):
                await writing
        self._writing = self._lane.run(self._writer.put, self._take())

    async def flush(self) -> int:
        """Write and fsync every byte taken so far; return the offset after the last. Writing may go on meanwhile."""
        with self._refusals.about(self._path):
            offset = await self._lane.run(self._writer.put, self._take())
            self._flushed = True
            await self._beside.run(self._writer.sync)
        return offset

    async def finish(self, *, modified: float | None) -> int:
        """Write what is held, cut what a longer predecessor left, set mode and time, fsync, close; return the size."""
        self._forget_writing()
        await self._still()
        with self._refusals.about(self._path):
            size = await self._lane.run(self._writer.finish, self._take(), self._mode, modified)
        self._finished = True
        return size

    async def close(self) -> None:
        """Close the part file, when the calls under way have ended; what was only gathered is dropped."""
        if self._closed:
            return
        self._closed = True
        self._leave()
        self._gathered.clear()
        self._forget_writing()
        if not self._finished:
            await self._still()
            await self._lane.run(self._writer.close)

    async def _still(self) -> None:
        """Wait until nothing is being flushed: what was let go of may be."""
        if self._flushed:
            await self._beside.run(_nothing)

    def _take(self) -> list[Octets]:
        taken, self._gathered, self._held = self._gathered, [], 0
        return taken

    def _forget_writing(self) -> None:
        """Leave a failure to the call that comes after it in the lane: the writer repeats it."""
        _forget(self._writing)
        self._writing = None


def _nothing() -> None:
    """Take a turn."""


def _after(pieces: Sequence[Octets | memoryview], written: int) -> list[Octets | memoryview]:
    """Return what is left of pieces of which so many bytes were written."""
    for number, piece in enumerate(pieces):
        if written < len(piece):
            return [memoryview(piece)[written:], *pieces[number + 1 :]]
        written -= len(piece)
    return []


def set_modified(descriptor: int, modified: float) -> None:
    """Set a file's modification time, POSIX seconds, as far as its file system can hold it."""
    nanoseconds = round(modified * 1e9)
    try:
        os.utime(descriptor, ns=(nanoseconds, nanoseconds))
    except OverflowError:
        return
    except OSError as error:
        # A time that the file system cannot hold is no reason not to have the file.
        if error.errno != errno.EINVAL:
            raise


def _forget(answer: Deferred[bytes] | Deferred[int] | None) -> None:
    if answer is not None:
        answer.addErrback(lambda _: None)
        answer.cancel()


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError as error:
        # EBADF is a bug of ours; anything else tells of bytes that were flushed before or are given up.
        if error.errno == errno.EBADF:
            raise
