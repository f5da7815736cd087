"""The requests of SFTP as calls: what a file server can be asked, one channel, no policy.

Every call raises Status where the server refuses, ConnectionLost or Stalled where it does not answer. Paths are
absolute bytes.
"""

import struct
from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred

from datamover.protocols.sftp import messages
from datamover.protocols.sftp.channel import SftpChannel
from datamover.protocols.sftp.messages import NOTHING, Attributes, Status, extended
from datamover.protocols.sftp.wire import Malformed, Reader, number, string

_READ_SIZE = _WRITE_SIZE = 2**15
"""Bytes of a request that every server takes."""
_LARGEST_READ = 2**18
_LARGEST_WRITE = 2**18
_LONGEST_LISTING = 1_000_000

_OFFSET = struct.Struct(">QL")


class Session:
    """One SFTP channel, its server's abilities known."""

    def __init__(self, channel: SftpChannel) -> None:
        self.channel = channel
        self.users = 0
        """Who has leased it."""
        self.read_size = _READ_SIZE
        self.write_size = _WRITE_SIZE
        self.extensions: dict[bytes, bytes] = {}

    async def open(self) -> None:
        """Wait for the channel and learn what the server can do."""
        self.extensions = await self.channel.opened
        if not self.can(messages.LIMITS):
            return
        try:
            answer = Reader(await self._extended(messages.LIMITS, expect=messages.EXTENDED_REPLY))
            _, read, write, _ = (answer.long() for _ in range(4))
        except (Status, Malformed):
            return
        self.read_size = min(read or _READ_SIZE, _LARGEST_READ)
        self.write_size = min(write or _WRITE_SIZE, _LARGEST_WRITE)

    def can(self, extension: bytes) -> bool:
        return extension in self.extensions

    # Names --------------------------------------------------------------------------------------------------

    async def real_path(self, path: bytes) -> bytes:
        """Return the path with every symbolic link followed; its last segment need not exist."""
        found: list[bytes] = await self.channel.request(messages.REALPATH, string(path))
        if len(found) != 1 or not found[0].startswith(b"/"):
            raise Status(messages.FAILURE, "a real path that is not one absolute path")
        return found[0]

    async def stat(self, path: bytes) -> Attributes | None:
        """Look at a name through links; None where there is nothing."""
        return await self._look(messages.STAT, path)

    async def link_stat(self, path: bytes) -> Attributes | None:
        """Look at a name itself; None where there is nothing."""
        return await self._look(messages.LSTAT, path)

    async def _look(self, kind: int, path: bytes) -> Attributes | None:
        try:
            found: Attributes = await self.channel.request(kind, string(path))
        except Status as refusal:
            if refusal.code == messages.NO_SUCH_FILE:
                return None
            raise
        return found

    async def make_directory(self, path: bytes, mode: int) -> None:
        """Make a directory of exactly this mode, whatever the server's umask."""
        await self.channel.request(messages.MKDIR, string(path), Attributes(mode=mode).packed())
        await self.channel.request(messages.SETSTAT, string(path), Attributes(mode=mode).packed())

    async def remove(self, path: bytes) -> None:
        await self.channel.request(messages.REMOVE, string(path))

    async def remove_directory(self, path: bytes) -> None:
        """Remove an empty directory."""
        await self.channel.request(messages.RMDIR, string(path))

    async def rename(self, old: bytes, new: bytes) -> None:
        """Rename where nothing has the new name."""
        await self.channel.request(messages.RENAME, string(old), string(new))

    async def replace(self, old: bytes, new: bytes) -> None:
        """Rename atomically over what has the new name; needs POSIX_RENAME."""
        await self._extended(messages.POSIX_RENAME, old, new)

    async def link(self, old: bytes, new: bytes) -> None:
        """Give a file a second name, where nothing has it; needs HARD_LINK."""
        await self._extended(messages.HARD_LINK, old, new)

    async def names(self, path: bytes) -> list[bytes]:
        """Return what a directory lists, "." and ".." too."""
        handle = await self.channel.request(messages.OPENDIR, string(path))
        found: list[bytes] = []
        try:
            while len(found) < _LONGEST_LISTING:
                found += await self.channel.request(messages.READDIR, string(handle))
        except Status as refusal:
            if refusal.code != messages.EOF:
                raise
        finally:
            self.close_later(handle)
        return found

    async def free(self, path: bytes) -> int | None:
        """Return the bytes that an ordinary user may still write, None where the server does not tell."""
        if not self.can(messages.STATVFS):
            return None
        answer = Reader(await self._extended(messages.STATVFS, path, expect=messages.EXTENDED_REPLY))
        _, fragment, _, _, available = (answer.long() for _ in range(5))
        return fragment * available

    async def sync_directory(self, path: bytes) -> None:
        """Make what was renamed in a directory durable, where the server lets a directory be opened for that."""
        if not self.can(messages.FSYNC):
            return
        try:
            handle = await self.open_file(path, messages.FOR_READING)
            try:
                await self.sync(handle)
            finally:
                self.close_later(handle)
        except Status:
            return

    # Open files ---------------------------------------------------------------------------------------------

    def open_file(self, path: bytes, flags: int, attributes: Attributes = NOTHING) -> Deferred[bytes]:
        """Open a file; fires with its handle. Cancelled, a handle that still comes is closed."""
        return self.channel.request(messages.OPEN, string(path), number(flags), attributes.packed())

    def read(self, handle: bytes, offset: int, length: int) -> Deferred[bytes]:
        """Read up to ``length`` bytes; fails with the status EOF behind the end."""
        return self.channel.request(messages.READ, string(handle), _OFFSET.pack(offset, length))

    def write(self, handle: bytes, offset: int, pieces: Iterable[bytes | memoryview], size: int) -> Deferred[None]:
        """Write ``pieces``, ``size`` bytes together."""
        return self.channel.request(messages.WRITE, string(handle), _OFFSET.pack(offset, size), *pieces)

    def look(self, handle: bytes) -> Deferred[Attributes]:
        return self.channel.request(messages.FSTAT, string(handle))

    def set(self, handle: bytes, attributes: Attributes) -> Deferred[None]:
        return self.channel.request(messages.FSETSTAT, string(handle), attributes.packed())

    def sync(self, handle: bytes) -> Deferred[None]:
        """Make a file durable; needs FSYNC."""
        return self._extended(messages.FSYNC, handle)

    def close(self, handle: bytes) -> Deferred[None]:
        return self.channel.request(messages.CLOSE, string(handle))

    def close_later(self, handle: bytes) -> None:
        """Close a handle without waiting for the answer."""
        self.close(handle).addErrback(lambda _: None)

    def _extended(self, name: bytes, *strings: bytes, expect: int = messages.STATUS) -> Deferred[Any]:
        return self.channel.request(messages.EXTENDED, extended(name, *strings), expect=expect)
