"""A directory of this machine as a destination: every call runs in a thread."""

from collections.abc import Awaitable, Callable, Sequence
from typing import ParamSpec, TypeVar
from weakref import WeakSet

from twisted.python.failure import Failure

from datamover.concurrency.batcher import Batch
from datamover.concurrency.shielding import finish_despite_cancel
from datamover.concurrency.threads import Threads
from datamover.errors import DataMoverError, Scope
from datamover.protocols.base import Inspection
from datamover.protocols.lacks import Lacks
from datamover.protocols.local.disk import Disk, unless_missing
from datamover.protocols.local.files import LocalSink, LocalSource
from datamover.protocols.local.put import Put
from datamover.protocols.local.reader import Opened
from datamover.protocols.local.refusals import DiskRefusals
from datamover.protocols.local.writer import FileWriter
from datamover.protocols.part_files import PartFilePlace
from datamover.protocols.part_files.seam import ProvePath
from datamover.protocols.place import PlaceSettings
from datamover.protocols.upload import Check, Stored

P = ParamSpec("P")
T = TypeVar("T")

PUT_AT_ONCE = 32
"""Small files that one call in a thread writes together, since a call costs more than their bytes."""
PUTTING = 2
"""Such calls at the same time."""


class LocalPlace(PartFilePlace):
    """``protocols.place.Place`` of a directory of this machine; ``opened`` collects the files that it opens.

    Cancelling a call discards its result; what it began on the disk is completed, and a file that it opened is closed.
    """

    def __init__(
        self,
        root: str,
        settings: PlaceSettings,
        side: Scope,
        threads: Threads,
        opened: WeakSet[LocalSource | LocalSink],
        lacks: Lacks,
    ) -> None:
        self.lacks = lacks
        self._refusals = DiskRefusals(settings.name, side)
        self._disk = Disk(root, settings.directory_mode, self._refusals, lacks)
        self._file_mode = settings.file_mode
        self._threads = threads
        self._puts: Batch[Put, None] = Batch(self._put, PUT_AT_ONCE, calls=PUTTING)
        self._opened = opened

    async def connect(self) -> None:
        """Make the root directory, if it is missing."""
        await self._call("", self._disk.make_root)

    async def inspect(self, path: str) -> Inspection | None:
        """Inspect one path, following links; None if nothing is there."""
        return await self._call(path, unless_missing, self._disk.inspect, path)

    def origin(self, path: str) -> "LocalOrigin":
        return LocalOrigin(self, path)

    async def open_part(self, part: str, target: str, *, offset: int = 0) -> LocalSink:
        """Open a part file; bytes of an earlier attempt stay until they are overwritten, or cut off by ``finish``."""
        with self._refusals.about(target):
            # Not cancelled: a part file that is created after its transfer was abandoned would never be removed.
            writer = await self._threads.finish(
                FileWriter.close, self._disk.open_part, part, target, offset, self._file_mode
            )
        sink = LocalSink(
            self._threads.executor(),
            self._threads.executor(),
            writer,
            self._file_mode,
            target,
            self._refusals,
        )
        self._opened.add(sink)
        return sink

    async def place_part(
        self, part: str, target: str, *, size: int, replace: bool, prove: ProvePath | None = None
    ) -> Stored:
        """Place a part file; a symbolic link there is replaced, unless it leads to a directory.

        Without ``replace`` the target is made by a hard link, which fails if the name exists, or on a disk without hard
        links by an exclusive rename. It may be called again after it was interrupted.
        """
        if prove is None:
            return Stored(size, without=await self._call(target, self._disk.place, part, target, size, replace))
        with self._refusals.about(target):
            placing = await self._threads.finish(
                self._disk.end_placing, self._disk.begin_placing, part, target, size, replace
            )
        executor = (
            self._threads.executor()
        )  # So that the directories are closed only after a step whose caller was cancelled.
        try:
            if not await self._refused(target, executor.run(placing.keep)):
                await prove(part)
            await self._refused(target, executor.run(placing.take_name))
            try:
                await prove(target)
            except DataMoverError:
                await self._refused(target, executor.run(placing.undo))
                raise
            lacks = await self._refused(target, executor.run(self._disk.settle, placing, target))
            return Stored(size, without=lacks)
        finally:
            await self._refused(target, executor.run(self._disk.end_placing, placing))

    async def put_part(
        self, part: str, target: str, data: bytes, *, modified: float | None, replace: bool, commit: Check
    ) -> Stored:
        """Write and place a small file, together with others that are put at the same time."""
        file = Put(part, target, data, self._file_mode, modified, replace, commit, self.lacks)
        await finish_despite_cancel(self._puts.add(file))
        return Stored(len(data), without=file.without)

    async def remove(self, path: str) -> None:
        """Remove a file, or a symbolic link itself; do nothing if it is missing."""
        await self._call(path, unless_missing, self._disk.remove, path)

    async def list(self, path: str) -> list[str]:
        """Return the names in a directory, sorted; bytes that are not UTF-8 become lone surrogates."""
        return await self._call(path, unless_missing, self._disk.names, path) or []

    async def free(self) -> int | None:
        """Return how many bytes the service's user may still write, None if the file system does not report it."""
        return await self._call("", self._disk.free)

    async def volume(self) -> str:
        """Return the number of the file system that the root is on, or will be made on."""
        return await self._call("", self._disk.volume)

    async def look(self, path: str) -> Inspection:
        """Inspect one path, following links; raises SourceNotFound or DestinationInvalid if nothing is there."""
        return await self._call(path, self._disk.inspect, path)

    async def read(self, path: str, offset: int, identity: str | None) -> LocalSource:
        """Open a regular file for reading, from ``offset`` if it still has ``identity``."""
        with self._refusals.about(path):
            opened = await self._threads.run_or_discard(_close, self._disk.open_file, path, offset, identity)
        source = LocalSource(self._threads.executor(), opened, path, self._refusals)
        self._opened.add(source)
        return source

    async def _put(self, files: Sequence[Put]) -> Sequence[Failure | None]:
        failures = await self._threads.submit(self._disk.put, files)
        return [None if failure is None else Failure(failure) for failure in failures]  # type: ignore[no-untyped-call]

    async def _call(self, path: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._refused(path, self._threads.run(call, *args, **kwargs))

    async def _refused(self, path: str, call: Awaitable[T]) -> T:
        """Return what a call returns; raises the disk's errors as errors of the family."""
        with self._refusals.about(path):
            return await call


class LocalOrigin:
    """``protocols.base.Origin`` of one name in a local place."""

    def __init__(self, place: LocalPlace, path: str) -> None:
        self._place = place
        self._path = path

    async def inspect(self) -> Inspection:
        return await self._place.look(self._path)

    async def open(self, offset: int = 0, identity: str | None = None) -> LocalSource:
        return await self._place.read(self._path, offset, identity)


def _close(opened: Opened) -> None:
    opened.reader.close()
