"""Inspect and open the files of one destination for reading."""

import posixpath
from collections.abc import Awaitable, Callable

from datamover.protocols.base import Inspection
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.link import Link
from datamover.protocols.sftp.client.messages import Attributes, SftpError
from datamover.protocols.sftp.refusals import ServerRefusals
from datamover.protocols.sftp.source import SftpSource
from datamover.protocols.sftp.tree import SftpTree


class SftpReader:
    """Opens files below ``tree``, over the connection that ``link`` returns."""

    def __init__(self, tree: SftpTree, link: Callable[[], Awaitable[Link]], refusals: ServerRefusals) -> None:
        self._tree = tree
        self._link = link
        self.refusals = refusals

    async def look(self, path: str) -> Inspection:
        """Inspect one path, following links; raises SftpError, also if nothing is there."""
        link = await self._link()
        async with link.lease() as session:
            _, found = await self._tree.target(link, session, path)
        if found is None:
            raise SftpError(messages.NO_SUCH_FILE, "No such file")
        name = posixpath.basename(path.rstrip("/"))
        if not found.regular:
            directory = found.directory
            return Inspection(name, modified=found.modified, directory=directory, special=not directory)
        return found.inspection(name)

    async def open(self, path: str, offset: int, identity: str | None) -> SftpSource:
        """Open a regular file for reading, from ``offset`` if it still has ``identity``."""
        with self.refusals.about(path):
            lease = (await self._link()).lease()
            session = await lease.take()
            handle = None
            try:
                real, found = await self._tree.target(lease.link, session, path)
                # Checked first, because opening a device may already have an effect on it.
                there = check_regular(path, found, self.refusals)
                handle = await session.open_file(real, messages.FOR_READING)
                source = SftpSource(lease, session, handle, real, path, self.refusals)
            except BaseException:
                if handle is not None:
                    session.close_later(handle)
                lease.release()
                raise
            try:
                with session.together():
                    looking = session.look(handle, real)
                    source.begin(there, offset, identity)
                found = check_regular(path, await looking, self.refusals)
                if found != there:
                    source.begin(found, offset, identity)
                await source.learn_size()
            except BaseException:
                await source.close()
                raise
            return source

    async def measure(self, path: str) -> int:
        """Return how many bytes a file has, by reading it to its end."""
        source = await self.open(path, 0, None)
        try:
            count = 0
            while data := await source.read():
                count += len(data)
            return count
        finally:
            await source.close()


class SftpOrigin:
    """``protocols.base.Origin`` of one name in a place on a server."""

    def __init__(self, reader: SftpReader, path: str) -> None:
        self._reader = reader
        self._path = path

    async def inspect(self) -> Inspection:
        with self._reader.refusals.about(self._path):
            return await self._reader.look(self._path)

    async def open(self, offset: int = 0, identity: str | None = None) -> SftpSource:
        return await self._reader.open(self._path, offset, identity)


def check_regular(path: str, found: Attributes | None, refusals: ServerRefusals) -> Attributes:
    """Return ``found``; raises SftpError if it is None, and an error of the side if it is no regular file."""
    if found is None:
        raise SftpError(messages.NO_SUCH_FILE, "No such file")
    if found.directory:
        raise refusals.directory(path)
    if not found.regular:
        raise refusals.special(path)
    return found
