"""The names below one collection of a web server, for the engine."""

import posixpath
from collections.abc import Callable, Container, Sequence
from functools import partial

from twisted.internet.defer import Deferred

from datamover.concurrency.shielding import finish_despite_cancel
from datamover.errors import ConnectionLost, DataMoverError, DestinationExists, Stalled
from datamover.protocols.base import Ability, Inspection, Lack
from datamover.protocols.dav.chunks import SUFFIX, Chunking, DavStore
from datamover.protocols.dav.files import DavFiles
from datamover.protocols.dav.habits import Habits
from datamover.protocols.dav.looks import Look
from datamover.protocols.dav.service import Refused
from datamover.protocols.dav.sink import DavSink, FedBody
from datamover.protocols.dav.upload import DavUpload, WholeUpload
from datamover.protocols.http_place.origin import ResourceOrigin
from datamover.protocols.object_store.token import Token
from datamover.protocols.object_store.upload import MultipartUpload, Tools
from datamover.protocols.part_files import PartFilePlace
from datamover.protocols.part_files.names import PREFIX, part_path, prefix
from datamover.protocols.part_files.seam import ProvePath
from datamover.protocols.upload import Check, Saved, Stored, UploadKey, unchecked


class DavPlace(PartFilePlace):
    """``protocols.place.Place`` of a collection.

    A file arrives by PUT under a hidden name and gets its own by MOVE, or in chunks. The answers to these are not
    believed: the file is checked after each.
    """

    def __init__(
        self,
        files: DavFiles,
        store: DavStore,
        chunking: Chunking,
        habits: Habits,
        tools: Tools,
        origin: Callable[[str], ResourceOrigin],
        lacks: Container[Ability],
    ) -> None:
        self.lacks = lacks
        self._files = files
        self._store = store
        self._chunking = chunking
        self._habits = habits
        self._tools = tools
        self._origin = origin

    async def inspect(self, path: str) -> Inspection | None:
        return await self._files.inspect(path)

    def origin(self, path: str) -> ResourceOrigin:
        return self._origin(path)

    async def list(self, path: str) -> list[str]:
        return await self._files.names(path.strip("/"))

    async def free(self) -> int | None:
        room, lacks = await self._files.room(), self._files.learnt.lacks
        if room is None:
            lacks.learn(Ability.FREE_SPACE, "the server tells no quota")
        else:
            lacks.saw(Ability.FREE_SPACE)
        return room

    async def remove(self, path: str) -> None:
        """Remove one file; a missing one is fine.

        It is inspected first: a directory would be removed with all that is in it.
        """
        if not _is_part(path):
            found = await self._files.look(path)
            if found is None:
                return
            if found.collection:
                raise self._files.refusals.directory(path)
        await self._files.delete(path)

    # Uploads --------------------------------------------------------------------------------------------------

    def begin(  # type: ignore[override]
        self,
        target: str,
        key: UploadKey,
        *,
        size: int | None = None,
        modified: float | None = None,
        sha256: str | None = None,
    ) -> WholeUpload | DavUpload:
        part = part_path(target, key, SUFFIX)
        whole = WholeUpload(self, target, part, offset=0, size=size, modified=modified)
        if self._chunking.taken is False or (size is not None and size <= self._tools.part_size):
            return whole
        token = Token(key.transfer, key.content, modified=modified, sha256=sha256)
        return DavUpload(self, target, self._chunking, MultipartUpload(self._tools, target, token, size=size), whole)

    def resume(  # type: ignore[override]
        self, target: str, saved: Saved, *, size: int | None = None, modified: float | None = None
    ) -> WholeUpload | MultipartUpload:
        if saved.token.startswith("{"):
            return MultipartUpload(self._tools, target, Token.parse(saved.token), saved.offset, size=size)
        return WholeUpload(self, target, saved.token, offset=saved.offset, size=size, modified=modified)

    async def sweep(
        self, target: str, transfer: str, *, check: Check, keep: str | None = None, since: float | None = None
    ) -> None:
        """Remove a transfer's part files from the target's directory, and its uploads in chunks."""
        directory, own = posixpath.dirname(target), prefix(transfer)
        for name in await self.list(directory):
            path = posixpath.join(directory, name)
            if path != keep and _is_part(name, own):
                check()
                await self._files.delete(path)
        kept = Token.parse(keep).upload if keep and keep.startswith("{") else None
        for upload in await self._store.uploads(transfer):
            if upload != kept:
                check()
                await self._store.abort_upload(target, upload)

    # Part files -----------------------------------------------------------------------------------------------

    async def prepare(self, target: str, part: str) -> str:
        """Make sure that a target can have its name; return what its part file is to be called.

        Some servers take no names that begin with a dot. Others do not list them: what a crash left of those could not
        be found.
        """
        await self._habits.learn()
        self._habits.check(target)
        directory, name = posixpath.split(part)
        return part if self._habits.takes_hidden else posixpath.join(directory, name.removeprefix("."))

    async def open_part(self, part: str, *, offset: int = 0) -> DavSink:
        return await self.open_sized(part, offset=offset, size=None, modified=None)

    async def open_sized(self, part: str, *, offset: int, size: int | None, modified: float | None) -> DavSink:
        """Open a part file; with ``size`` (bytes) and ``modified`` (POSIX seconds) where they are known."""
        if offset:
            # A PUT with Content-Range is never sent: some servers take the fragment for the file (RFC 9110 14.5).
            raise self._files.refusals.again(part)
        await self._files.make_directory(posixpath.dirname(part))
        body = FedBody(size)
        return DavSink(body, self._files.stream(part, body, modified), partial(self._arrived, part, modified))

    async def place_part(
        self, part: str, target: str, *, size: int, replace: bool, prove: ProvePath | None = None
    ) -> Stored:
        return await self._place(part, target, size, replace=replace, prove=prove)

    async def put_part(
        self, part: str, target: str, data: bytes, *, modified: float | None, replace: bool, commit: Check
    ) -> Stored:
        # To its end: nothing of it is to come any more when this has ended.
        await finish_despite_cancel(Deferred.fromCoroutine(self._files.put(part, data, modified)))
        try:
            return await self._place(part, target, len(data), replace=replace, check=commit, modified=modified)
        except DestinationExists:
            await self._files.delete(part)
            raise

    # Placing --------------------------------------------------------------------------------------------------

    async def _place(
        self,
        part: str,
        target: str,
        size: int,
        *,
        replace: bool,
        prove: ProvePath | None = None,
        check: Check = unchecked,
        modified: float | None = None,
    ) -> Stored:
        old = await self._replaced(target) if replace else None
        if old is not None:
            # The old file cannot be kept until the new one was looked at under its name: that is looked at before.
            arrived = await self._files.look(part)
            if arrived is None:
                raise self._files.refusals.missing(part)
            await self._check_size(arrived, part, target, "in its part file", size)
            if prove is not None:
                await prove(part)
        await self._take_name(part, target, size, old, replace=replace, check=check)
        found = await self._files.look(target)
        if found is None or found.collection:
            raise self._files.refusals.other_size(target, "under its name", None, size)
        try:
            await self._check_size(found, target, target, "under its name", size)
            if prove is not None:
                await prove(target)
        except DataMoverError:
            await self._files.delete(target)
            raise
        return Stored(size, found.digests, self._files.without(found, modified))

    async def _replaced(self, target: str) -> Look | None:
        """Return the file that has the target's name. A directory would be replaced as well: it is refused."""
        found = await self._files.look(target)
        if found is not None and found.collection:
            raise self._files.refusals.directory(target)
        return found

    async def _take_name(
        self, part: str, target: str, size: int, old: Look | None, *, replace: bool, check: Check
    ) -> None:
        async def move(condition: object) -> None:
            await self._files.move(part, target, replace=not condition)

        refusals = self._files.refusals
        try:
            await self._tools.conditions.put(self._store, target, move, replace=replace, check=check)
        except DestinationExists:
            await self._replaced(target)
            raise
        except (Refused, ConnectionLost, Stalled) as error:
            lost = not isinstance(error, Refused) or error.status >= 500 or error.missing
            # The answer was lost, maybe that to the same request before, and what was asked for may be done.
            if lost and await self._is_moved(part, target, size, old):
                return
            if not isinstance(error, Refused):
                raise
            if error.missing:
                raise refusals.missing(part) from error
            await self._replaced(target)
            raise refusals.of(error, target) from error

    async def _is_moved(self, part: str, target: str, size: int, old: Look | None) -> bool:
        """Tell whether a part file has become the target, which was ``old`` before."""
        if await self._files.look(part) is not None:
            return False
        found = await self._files.look(target)
        return found is not None and found.size == size and found != old

    async def _arrived(self, part: str, modified: float | None) -> tuple[int, Sequence[Lack]]:
        found = await self._files.look(part)
        if found is None:
            raise self._files.refusals.gone(part)
        size = await self._measured(part) if found.size is None else found.size
        return size, self._files.without(found, modified)

    async def _check_size(self, found: Look, path: str, target: str, where: str, size: int) -> None:
        held = await self._measured(path) if found.size is None else found.size
        if held != size:
            raise self._files.refusals.other_size(target, where, held, size)

    async def _measured(self, path: str) -> int:
        """Read a file to its end, and return its bytes: for servers that tell no size."""
        source, size = await self._origin(path).open(), 0
        try:
            while data := await source.read():
                size += len(data)
        finally:
            await source.close()
        return size


def _is_part(path: str, beginning: str = PREFIX) -> bool:
    """Tell whether a path is that of a part file, whose name may lack the dot that ``beginning`` has."""
    name = posixpath.basename(path)
    return name.endswith(SUFFIX) and f".{name.removeprefix('.')}".startswith(beginning)
