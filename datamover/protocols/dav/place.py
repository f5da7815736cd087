"""A collection of a WebDAV server as a destination."""

import posixpath
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace as changed
from functools import partial

from twisted.internet.defer import Deferred

from datamover.concurrency.shielding import finish_despite_cancel
from datamover.errors import ChecksumMismatch, ConnectionLost, DestinationExists, SizeMismatch, Stalled
from datamover.protocols.base import Ability, Inspection, Lack
from datamover.protocols.dav.chunks import SUFFIX, Chunking, DavStore
from datamover.protocols.dav.files import DavFiles
from datamover.protocols.dav.habits import Habits
from datamover.protocols.dav.looks import DavLook, Sent
from datamover.protocols.dav.service import DavRefused
from datamover.protocols.dav.sink import DavSink, FedBody
from datamover.protocols.dav.upload import ChunkedUpload, DavUpload, WholeUpload
from datamover.protocols.http_place.origin import ResourceOrigin
from datamover.protocols.object_store.seam import FoundObject
from datamover.protocols.object_store.token import Token
from datamover.protocols.object_store.upload import Tools
from datamover.protocols.part_files import PartFilePlace
from datamover.protocols.part_files.names import PREFIX, part_path, prefix
from datamover.protocols.part_files.seam import ProvePath
from datamover.protocols.upload import Check, Saved, Stored, UploadKey, unchecked


class DavPlace(PartFilePlace):
    """``protocols.place.Place`` of a collection.

    A file is sent by PUT under a hidden name and gets its own by MOVE, or it is sent in chunks. The answers are not
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
        """Remove one file; do nothing if it is missing.

        It is inspected first: a directory would be removed with all that is in it.
        """
        if _is_part(path):
            await self._files.delete(path)
        elif (found := await self._file_at(path)) is not None:
            await self._remove(path, found)

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
        return DavUpload(self, target, self._chunking, self._chunked(target, token, 0, size), whole)

    def resume(  # type: ignore[override]
        self, target: str, saved: Saved, *, size: int | None = None, modified: float | None = None
    ) -> WholeUpload | ChunkedUpload:
        if saved.token.startswith("{"):
            return self._chunked(target, Token.parse(saved.token), saved.offset, size)
        return WholeUpload(self, target, saved.token, offset=saved.offset, size=size, modified=modified)

    def _chunked(self, target: str, token: Token, offset: int, size: int | None) -> ChunkedUpload:
        tools = changed(self._tools, store=self._store.of(size))
        return ChunkedUpload(self, tools, target, token, offset, size=size)

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
        """As ``upload.SizedParts.prepare``.

        Some servers accept no names that begin with a dot. Others do not list them, so that leftovers would not be
        found.
        """
        await self._habits.learn()
        self._habits.check(target)
        directory, name = posixpath.split(part)
        return part if self._habits.takes_hidden else posixpath.join(directory, name.removeprefix("."))

    async def open_part(self, part: str, target: str, *, offset: int = 0) -> DavSink:
        return await self.open_sized(part, target, offset=offset, size=None, modified=None)

    async def open_sized(
        self, part: str, target: str, *, offset: int, size: int | None, modified: float | None
    ) -> DavSink:
        """Open a part file; with ``size`` (bytes) and ``modified`` (POSIX seconds) where they are known."""
        if offset:
            # A PUT with Content-Range is never sent: some servers take the fragment for the file (RFC 9110 14.5).
            raise self._files.refusals.again(target)
        await self._files.make_directory(posixpath.dirname(part))
        body = FedBody(size)
        early = self._files.refusals.early(target, measured=size is not None)
        sending = self._files.stream(part, body, modified, target)
        return DavSink(body, sending, partial(self._arrived, part, target, modified), early)

    async def place_part(
        self, part: str, target: str, *, size: int, replace: bool, prove: ProvePath | None = None
    ) -> Stored:
        return await self.place_over(part, target, size=size, replace=replace, prove=prove, over=None, modified=None)

    async def place_over(
        self,
        part: str,
        target: str,
        *,
        size: int,
        replace: bool,
        prove: ProvePath | None,
        over: str | None,
        modified: float | None,
    ) -> Stored:
        """As ``upload.SizedParts`` has it."""
        arrived = await self._files.look(part)
        if arrived is None:
            # An earlier commit may have moved it, in a process that was killed then.
            moved = await self._files.look(target)
            if moved is None or moved.size != size or modified is None or moved.modified != int(modified):
                raise self._files.refusals.missing(part)
            return await self._placed(part, target, Sent(size, moved), prove)
        return await self._place(part, target, Sent(size, arrived), replace=replace, prove=prove, over=over)

    async def put_part(
        self, part: str, target: str, data: bytes, *, modified: float | None, replace: bool, commit: Check
    ) -> Stored:
        # Not cancelled, so that nothing of it is still to arrive when this has ended.
        etag = await finish_despite_cancel(Deferred.fromCoroutine(self._files.put(part, data, modified, target)))
        sent = Sent(len(data), DavLook(etag=etag), data)
        try:
            return await self._place(part, target, sent, replace=replace, check=commit, modified=modified)
        except DestinationExists:
            await self._files.delete(part)
            raise

    async def without(self, path: str, modified: float | None) -> Sequence[Lack]:
        """Return what could not be done for a file that was to have this time (POSIX seconds)."""
        found = await self._files.look(path) if modified is not None else None
        return () if found is None else self._files.learnt.without(found, modified)

    # Placing --------------------------------------------------------------------------------------------------

    async def _place(
        self,
        part: str,
        target: str,
        sent: Sent,
        *,
        replace: bool,
        prove: ProvePath | None = None,
        over: str | None = None,
        check: Check = unchecked,
        modified: float | None = None,
    ) -> Stored:
        await self._habits.learn()  # Whoever commits need not be who sent it.
        old = await self._file_at(target) if replace else None
        if old is not None:
            # The old file cannot be kept until the new one was checked under its name, so that is checked before.
            arrived = await self._files.look(part)
            if arrived is None:
                raise self._files.refusals.missing(part)
            await self._check_size(arrived, part, target, "in its part file", sent.size)
            sent = changed(sent, found=arrived)
            if prove is not None:
                await prove(part)
        etag = await self._take_name(part, target, sent, old, replace=replace, over=over, check=check)
        return await self._placed(part, target, sent.tagged(etag), prove, modified)

    async def _placed(
        self, part: str, target: str, sent: Sent, prove: ProvePath | None, modified: float | None = None
    ) -> Stored:
        """Check a file that has taken its name; if it is ours and wrong, it is removed."""
        refusals = self._files.refusals
        found = await self._files.look(target)
        if found is not None and found.collection:
            # Some servers move a file into the directory that has its target's name.
            await self._files.delete(posixpath.join(target, posixpath.basename(part)))
            raise refusals.directory(target)
        if found is None:
            raise refusals.other_size(target, "under its name", None, sent.size)
        try:
            await self._check_size(found, target, target, "under its name", sent.size)
            if (why := sent.differs(found)) is not None:
                raise refusals.damaged(target, why)
            if prove is not None:
                await prove(target)
        except (SizeMismatch, ChecksumMismatch) as error:
            if not await self._is_ours(target, found, sent):
                raise refusals.overtaken(target) from error
            await self._remove(target, found)
            raise
        digests = {} if sent.is_in(found) is False else found.digests
        return Stored(sent.size, digests, self._files.learnt.without(found, modified))

    async def _remove(self, path: str, found: DavLook) -> None:
        """Remove a file if it is unchanged since it was found."""
        there = FoundObject(found.inspection(path), self._files.as_found(path, found))
        await self._tools.conditions.remove(self._store, path, there)

    async def _is_ours(self, target: str, found: DavLook, sent: Sent) -> bool:
        """Tell whether a wrong file is the one that was sent, and not what somebody else wrote meanwhile.

        A small file without an ETag is compared by content: it must be a beginning of what was sent.
        """
        known = sent.is_in(found)
        if known is not None or sent.data is None:
            return bool(known)
        size, content = await self._read(target, len(sent.data))
        return size <= len(sent.data) and sent.data.startswith(content)

    async def _file_at(self, path: str) -> DavLook | None:
        """Return the file at a path; raises an error for a directory, which a request would replace or remove, too."""
        found = await self._files.look(path)
        if found is not None and found.collection:
            raise self._files.refusals.directory(path)
        return found

    async def _take_name(
        self, part: str, target: str, sent: Sent, old: DavLook | None, *, replace: bool, over: str | None, check: Check
    ) -> str:
        """Rename a part file; return the answer's ETag, "" if it has none."""
        etag = ""

        async def move(condition: Mapping[str, str]) -> None:
            nonlocal etag
            etag = await self._files.move(part, target, condition)

        conditions, refusals = self._tools.conditions, self._files.refusals
        fresh = not replace or over == ""
        taken = refusals.overtaken if replace else refusals.exists
        try:
            if over:
                await conditions.complete(self._store, target, move, replace=replace, over=over)
            else:
                await conditions.put(self._store, target, move, replace=not fresh, check=check)
        except DestinationExists:
            await self._file_at(target)
            raise taken(target) from None
        except (DavRefused, ConnectionLost, Stalled) as error:
            lost = not isinstance(error, DavRefused) or error.status >= 500 or error.missing
            # The answer to this request, or to an earlier one, was lost, and the file may have been moved.
            if lost and await self._is_moved(part, target, sent, old):
                return ""
            if not isinstance(error, DavRefused):
                raise
            if error.missing:
                raise refusals.missing(part) from error
            if await self._file_at(target) is not None and fresh:
                raise taken(target) from error  # Not all say it by 412.
            raise refusals.of(error, target) from error
        return etag

    async def _is_moved(self, part: str, target: str, sent: Sent, old: DavLook | None) -> bool:
        """Tell whether the part file was moved to the target, where ``old`` was before."""
        if await self._files.look(part) is not None:
            return False
        found = await self._files.look(target)
        return found is not None and found.size == sent.size and found != old and sent.is_in(found) is not False

    async def _arrived(self, part: str, target: str, modified: float | None) -> tuple[int, Sequence[Lack]]:
        found = await self._files.look(part)
        if found is None:
            raise self._files.refusals.gone(target)
        size = await self._measured(part) if found.size is None else found.size
        return size, self._files.learnt.without(found, modified)

    async def _check_size(self, found: DavLook, path: str, target: str, where: str, size: int) -> None:
        held = await self._measured(path) if found.size is None else found.size
        if held != size:
            raise self._files.refusals.other_size(target, where, held, size)

    async def _measured(self, path: str) -> int:
        """Read a file and return its size in bytes, for servers that report none."""
        return (await self._read(path))[0]

    async def _read(self, path: str, most: int = 0) -> tuple[int, bytes]:
        """Read a file; return its size and its first bytes, at most ``most``."""
        source, size, first = await self._origin(path).open(), 0, bytearray()
        try:
            while data := await source.read():
                first += data[: max(0, most - size)]
                size += len(data)
        finally:
            await source.close()
        return size, bytes(first)


def _is_part(path: str, beginning: str = PREFIX) -> bool:
    """Tell whether a path is one of a part file, with or without the dot at the beginning of its name."""
    name = posixpath.basename(path)
    return name.endswith(SUFFIX) and f".{name.removeprefix('.')}".startswith(beginning)
