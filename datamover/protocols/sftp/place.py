"""The names below a root on a file server, for the engine."""

import posixpath
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList

from datamover.errors import DestinationExists, Scope
from datamover.finishing import to_its_end
from datamover.protocols.base import Inspection, PlaceSettings
from datamover.protocols.sftp import messages, naming
from datamover.protocols.sftp.lanes import Lane
from datamover.protocols.sftp.link import Link
from datamover.protocols.sftp.messages import Attributes, Status, decode, encode
from datamover.protocols.sftp.refusals import Refusals
from datamover.protocols.sftp.session import Session
from datamover.protocols.sftp.sink import SftpSink, raise_refused, whole_seconds
from datamover.protocols.sftp.source import SftpSource
from datamover.protocols.sftp.tree import Tree

T = TypeVar("T")

_PRIVATE = Attributes(mode=0o600)
_ANEW = messages.FOR_WRITING | messages.CREATE | messages.EXCLUSIVELY
"""Of a file that is not there, as a part file mostly is not: one request tells, and makes it."""


class SftpPlace:
    """``protocols.base.Place`` of a directory on a server, whose connection ``link`` answers with.

    Cancelling a call lets go of its answer; what the server was asked for it does, and a file it opened is closed.
    """

    def __init__(
        self,
        root: str,
        user: str,
        settings: PlaceSettings,
        side: Scope,
        link: Callable[[], Awaitable[Link]],
        reactor: Any,
    ) -> None:
        self._refusals = Refusals(settings.name, user, side)
        self._tree = Tree(reactor, root, settings.directory_mode, self._refusals)
        self._file_mode = settings.file_mode
        self._link = link

    async def connect(self) -> None:
        """Make sure of a connection and of SFTP on it."""
        with self._refusals.about(""):
            async with (await self._link()).lease():
                pass

    async def inspect(self, path: str) -> Inspection | None:
        """Look at one name, through links; None where there is nothing."""
        with self._refusals.about(path):
            try:
                return await self._look(path)
            except Status as refusal:
                if refusal.code == messages.NO_SUCH_FILE:
                    return None
                raise

    def origin(self, path: str) -> "SftpOrigin":
        return SftpOrigin(self, path)

    async def write(self, part: str, *, offset: int = 0) -> SftpSink:
        """Open a part file; its predecessor's bytes stay until they are overwritten or cut off at the end."""
        with self._refusals.about(part):
            lease = (await self._link()).lease()
            session = await lease.__aenter__()
            lease.prepare()
            handle = None
            try:
                real, handle = await _unless_stale(
                    lease.link, lambda: self._open_part(lease.link, session, part, offset)
                )
                if offset:
                    self._check_long_enough(await session.look(handle), part, offset)
            except BaseException:
                if handle is not None:
                    session.close_later(handle)
                lease.give_back()
                raise
            return SftpSink(Lane(lease, session, handle), real, offset, self._file_mode, part, self._refusals)

    async def place(self, part: str, target: str, *, replace: bool) -> None:
        """Rename a part file to its target; a symbolic link there is replaced, unless it leads to a directory.

        Without ``replace`` the target is made as a hard link of the part file, which fails where there is anything;
        a server without hard links is asked for a rename, which it must refuse then (version 3, section 6.5).
        On a server without posix-rename@openssh.com nothing has the name for an instant (``naming``); what is left
        aside when that breaks off is put back by the next call, or by ``remove`` of the part file.
        """
        with self._refusals.about(target):
            link = await self._link()
            async with link.lease() as session:
                await _unless_stale(link, lambda: self._place(link, session, part, target, replace))

    async def put(
        self,
        part: str,
        target: str,
        data: bytes,
        *,
        modified: float | None,
        replace: bool,
        commit: Callable[[], None],
    ) -> None:
        """Write and place a small file: what needs no answer to go on is asked for together."""
        with self._refusals.about(target):
            link = await self._link()
            async with link.lease() as session:
                putting = Deferred.fromCoroutine(
                    _unless_stale(link, lambda: self._put(link, session, part, target, data, modified))
                )
                names = await to_its_end(putting)
                commit()
                await self._name_it(link, session, names, target, replace)

    async def remove(self, path: str) -> None:
        """Remove a file, or a symbolic link itself; a missing one is fine.

        With a part file, the file that ``place`` set aside for it is put back where it was.
        """
        with self._refusals.about(path):
            link = await self._link()
            async with link.lease() as session:
                real = None
                try:
                    real = await self._tree.name(link, session, path)
                    if real.endswith(naming.ASIDE):
                        await naming.put_back(session, real)
                        return
                    if not session.can(messages.POSIX_RENAME):
                        await naming.put_back(session, real + naming.ASIDE)
                    await session.remove(real)
                except Status as refusal:
                    if refusal.code == messages.NO_SUCH_FILE:
                        return
                    found = None if real is None else await session.link_stat(real)
                    if found is not None and found.directory:
                        raise self._refusals.unusable(
                            path, "is a directory where a file is needed; name a file"
                        ) from None
                    raise

    async def list(self, path: str) -> list[str]:
        """Return the names in a directory, sorted; those that are not UTF-8 with lone surrogates."""
        with self._refusals.about(path):
            link = await self._link()
            async with link.lease() as session:
                try:
                    found = await session.names(await self._tree.directory(link, session, path.rstrip("/")))
                except Status as refusal:
                    if refusal.code == messages.NO_SUCH_FILE:
                        return []
                    raise
            return sorted(decode(name) for name in found if name not in (b".", b"..") and b"/" not in name)

    async def free(self) -> int | None:
        """Return the bytes that the server's file system has left, None where it cannot be asked."""
        with self._refusals.about(""):
            async with (await self._link()).lease() as session:
                return await self._tree.free(session)

    async def look(self, path: str) -> Inspection:
        """Look at one name, through links, that must be there."""
        with self._refusals.about(path):
            return await self._look(path)

    async def read(self, path: str, offset: int, identity: str | None) -> SftpSource:
        """Open a regular file for reading, from ``offset`` if it still has ``identity``."""
        with self._refusals.about(path):
            lease = (await self._link()).lease()
            session = await lease.__aenter__()
            handle = None
            try:
                real, found = await self._tree.target(lease.link, session, path)
                # Looked at first: to open a device can already do something to it.
                there = self._check_regular(path, found)
                handle = await session.open_file(real, messages.FOR_READING)
                source = SftpSource(lease, session, handle, path, self._refusals)
            except BaseException:
                if handle is not None:
                    session.close_later(handle)
                lease.give_back()
                raise
            try:
                with session.together():
                    looking = session.look(handle)
                    source.begin(there, offset, identity)
                found = self._check_regular(path, await looking)
                if found != there:
                    source.begin(found, offset, identity)
            except BaseException:
                await source.close()
                raise
            return source

    async def _look(self, path: str) -> Inspection:
        link = await self._link()
        async with link.lease() as session:
            _, found = await self._tree.target(link, session, path)
        if found is None:
            raise Status(messages.NO_SUCH_FILE, "No such file")
        name = posixpath.basename(path.rstrip("/"))
        if not found.regular:
            return Inspection(name, modified=found.modified, directory=found.directory)
        return Inspection(name, found.size, found.identity, found.modified)

    async def _place(self, link: Link, session: Session, part: str, target: str, replace: bool) -> None:
        new = await self._tree.name(link, session, target, make=True)
        there = await session.stat(new)
        if there is not None and there.directory:
            raise self._refusals.unusable(target, "is a directory where a file is needed; name a file")
        with self._refusals.about(part):
            old = await self._tree.name(link, session, part)
            self._check_regular(part, await session.link_stat(old))
        if replace:
            await naming.replace(session, old, new)
        else:
            await naming.claim(session, old, new, target, self._refusals)
        await session.sync_directory(posixpath.dirname(new))

    async def _put(
        self, link: Link, session: Session, part: str, target: str, data: bytes, modified: float | None
    ) -> tuple[bytes, bytes, bytes]:
        """Write a small part file; return the real paths of its directory, of itself, and of its target."""
        real, handle = await self._open_part(link, session, part, 0)
        attributes = Attributes(len(data), self._file_mode, whole_seconds(modified))
        content, step = memoryview(data), session.write_size
        asked: list[Deferred[Any]] = []
        with session.together():
            for start in range(0, len(data), step):
                piece = content[start : start + step]
                asked.append(session.write(handle, start, [piece], len(piece)))
            asked.append(session.set(handle, attributes))
            if session.can(messages.FSYNC):
                asked.append(session.sync(handle))
            asked.append(session.look(handle))
            session.close_later(handle)
        answers = await DeferredList(asked, consumeErrors=True)
        for came, answer in answers:
            if not came:
                await raise_refused(answer.value, session, real, self._refusals, part)
        held = answers[-1][1].size
        if held is not None and held != len(data):
            raise self._refusals.short(part, held, len(data))
        directory = posixpath.dirname(real)
        return directory, real, posixpath.join(directory, encode(posixpath.basename(target)))

    async def _name_it(
        self, link: Link, session: Session, names: tuple[bytes, bytes, bytes], target: str, replace: bool
    ) -> None:
        """Give a small part file its name, and make that durable together with those beside it."""
        directory, old, new = names
        if replace:
            there = await session.stat(new)
            if there is not None and there.directory:
                raise self._refusals.unusable(target, "is a directory where a file is needed; name a file")
            await naming.replace(session, old, new)
        else:
            try:
                await naming.claim(session, old, new, target, self._refusals)
            except DestinationExists:
                await session.remove(old)
                raise
        await link.synced(session, directory)

    async def _open_part(self, link: Link, session: Session, part: str, offset: int) -> tuple[bytes, bytes]:
        """Open a part file for writing, where nothing else is in its way; return its real path and its handle."""
        real = await self._tree.name(link, session, part, make=not offset)
        if not offset:
            try:
                return real, await session.open_file(real, _ANEW, _PRIVATE)
            except Status as refusal:
                if refusal.code == messages.NO_SUCH_FILE:
                    raise
        found = await session.link_stat(real)
        if found is None:
            if offset:
                raise self._refusals.short(part, 0, offset)
        elif found.directory or not (found.regular or found.link):
            raise self._refusals.unusable(part, "is not a regular file; remove it or take another name")
        elif found.link:
            raise self._refusals.unusable(part, "is a symbolic link where a part file is needed; remove it")
        flags = messages.FOR_WRITING | (0 if offset else messages.CREATE)
        return real, await session.open_file(real, flags, _PRIVATE)

    def _check_long_enough(self, found: Attributes, part: str, offset: int) -> None:
        if found.size is None or found.size < offset:
            raise self._refusals.short(part, found.size or 0, offset)

    def _check_regular(self, path: str, found: Attributes | None) -> Attributes:
        if found is None:
            raise Status(messages.NO_SUCH_FILE, "No such file")
        if found.directory:
            raise self._refusals.unusable(path, "is a directory where a file is needed; name a file")
        if not found.regular or found.size is None:
            raise self._refusals.unusable(path, "is not a regular file; remove it or take another name")
        return found


async def _unless_stale(link: Link, call: Callable[[], Awaitable[T]]) -> T:
    """Call, and once more where a directory that was there a moment ago is not any more."""
    remembered = bool(link.directories)  # Now: whoever else is told so may have them forgotten meanwhile.
    try:
        return await call()
    except Status as refusal:
        if refusal.code != messages.NO_SUCH_FILE or not remembered:
            raise
    link.directories.clear()
    return await call()


class SftpOrigin:
    """``protocols.base.Origin`` of one name in a place on a server."""

    def __init__(self, place: SftpPlace, path: str) -> None:
        self._place = place
        self._path = path

    async def inspect(self) -> Inspection:
        return await self._place.look(self._path)

    async def open(self, offset: int = 0, identity: str | None = None) -> SftpSource:
        return await self._place.read(self._path, offset, identity)
