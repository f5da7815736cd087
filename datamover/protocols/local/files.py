"""One local file that is read or written: ``reader`` and ``writer`` run in threads, one call at a time."""

from collections import deque
from collections.abc import Sequence

from twisted.internet.defer import Deferred, succeed

from datamover.concurrency.buffer_budgets import Buffers
from datamover.concurrency.serial import SerialExecutor
from datamover.protocols.base import Lack, Octets
from datamover.protocols.local.reader import CHUNKS, Opened
from datamover.protocols.local.refusals import DiskRefusals
from datamover.protocols.local.writer import FileWriter

WRITES = Buffers(4 * 2**20, least=5 * 2**14, most=2**19)
"""Bytes that are gathered for one write."""
AHEAD = 2
"""Writes that may be in progress or queued."""


class LocalSource:
    """``protocols.base.Source`` of a local file."""

    def __init__(self, executor: SerialExecutor, opened: Opened, path: str, refusals: DiskRefusals) -> None:
        self._executor = executor
        self._reader = opened.reader
        self._ahead: Deferred[bytes] | None = succeed(opened.first)
        self.inspection = opened.inspection
        self.offset = opened.offset
        self._path = path
        self._refusals = refusals
        self._leave = CHUNKS.join()
        self._closed = False

    async def read(self) -> bytes:
        """Return the next bytes, b"" at the end. Raises SourceChanged if the file has changed since it was opened."""
        if self._ahead is None:
            return b""
        with self._refusals.about(self._path):
            data = await self._ahead
        self._ahead = None if self._reader.ended else self._executor.run(self._reader.read)
        return data

    async def close(self) -> None:
        """Close the file, after the read in progress."""
        if self._closed:
            return
        self._closed = True
        self._leave()
        _forget(self._ahead)
        self._ahead = None
        await self._executor.run(self._reader.close)


class LocalSink:
    """``part_files.seam.PartFileSink`` of a local part file."""

    def __init__(
        self,
        executor: SerialExecutor,
        beside: SerialExecutor,
        writer: FileWriter,
        mode: int,
        path: str,
        refusals: DiskRefusals,
    ) -> None:
        """``beside`` runs fsync only, so that writing goes on meanwhile in ``executor``."""
        self._executor = executor
        self._beside = beside
        self._writer = writer
        self._mode = mode
        self._path = path
        self._refusals = refusals
        self._gathered: list[Octets] = []
        self._held = 0
        self._writing: deque[Deferred[int]] = deque()
        self._leave = WRITES.join()
        self._flushed = False
        self._finished = False
        self._closed = False

    async def write(self, data: Octets) -> None:
        """Take the next bytes; waits while more than ``AHEAD`` writes are pending. Raises errors of earlier writes."""
        self._gathered.append(data)
        self._held += len(data)
        if self._held < WRITES.size:
            return
        self._writing.append(self._executor.run(self._writer.put, self._take()))
        while len(self._writing) > AHEAD:
            with self._refusals.about(self._path):
                await self._writing.popleft()

    async def flush(self) -> int:
        """Write and fsync all bytes taken so far; return the offset after the last. More may be written meanwhile."""
        with self._refusals.about(self._path):
            offset = await self._executor.run(self._writer.drain, self._take())
            self._flushed = True
            await self._beside.run(self._writer.sync)
        return offset

    async def finish(self, *, modified: float | None) -> int:
        """Write the rest, cut off what is beyond it, set mode and time, fsync, close; return the size.

        Raises errors of closing the file, too.
        """
        self._forget_writing()
        await self._flush_ended()
        with self._refusals.about(self._path):
            size = await self._executor.run(self._writer.finish, self._take(), self._mode, modified)
        self._finished = True
        return size

    @property
    def without(self) -> Sequence[Lack]:
        return self._writer.without

    @property
    def doubtful(self) -> bool:
        return self._writer.doubtful

    @property
    def watched(self) -> bool:
        """Return False: a disk may hang."""
        return False

    async def close(self) -> None:
        """Close the part file, after the calls in progress; bytes not yet written are dropped."""
        if self._closed:
            return
        self._closed = True
        self._leave()
        self._gathered.clear()
        self._forget_writing()
        if not self._finished:
            await self._flush_ended()
            await self._executor.run(self._writer.close)

    async def _flush_ended(self) -> None:
        """Wait until no fsync runs: it goes on if its caller is cancelled."""
        if self._flushed:
            await self._beside.run(_nothing)

    def _take(self) -> list[Octets]:
        taken, self._gathered, self._held = self._gathered, [], 0
        return taken

    def _forget_writing(self) -> None:
        """Ignore the results of writes: the writer raises their failure again at its next call."""
        while self._writing:
            _forget(self._writing.popleft())


def _nothing() -> None:
    """Do nothing, once the calls before it have ended."""


def _forget(answer: Deferred[bytes] | Deferred[int] | None) -> None:
    if answer is not None:
        answer.addErrback(lambda _: None)
        answer.cancel()
