"""The requests of SFTP as methods, over one channel, without any policy.

Every call raises SftpError if the server refuses, ConnectionLost or Stalled if it does not answer. Paths are absolute
bytes.
"""

import struct
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from datamover.bounds.servers import LARGEST_DOCUMENT, LONGEST_SFTP_LISTING
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.channel import SftpChannel
from datamover.protocols.sftp.client.messages import NOTHING, Attributes, SftpError, extended
from datamover.protocols.sftp.ssh.wire import MalformedMessage, MessageReader, number, string

_READ_SIZE = _WRITE_SIZE = 2**15
"""Bytes of a request that every server accepts."""
_LARGEST_READ = 2**18
_LARGEST_WRITE = 2**18

_OFFSET = struct.Struct(">QL")


@dataclass(frozen=True, slots=True)
class Space:
    """The room of one file system of a server (``statvfs@openssh.com``)."""

    left: int
    """Bytes that an ordinary user may still write."""
    file_system: int
    """The file system's number (``f_fsid``); 0: it has none, as NFS has none."""


class SftpSession:
    """One SFTP channel, and what its server supports."""

    def __init__(self, channel: SftpChannel) -> None:
        self.channel = channel
        self.users = 0
        """How many leases hold it."""
        self.read_size = _READ_SIZE
        self.write_size = _WRITE_SIZE
        self.extensions: dict[bytes, bytes] = {}
        self.openssh = False
        """Whether OpenSSH's own SFTP server answers, whose behaviour is known.

        Other SFTP servers run behind OpenSSH's sshd; those do not announce the extension that only OpenSSH has.
        """
        self._looks_by_path = False

    async def open(self) -> None:
        """Wait for the channel, and learn what the server supports; requests are small until it tells its limits."""
        self.extensions = await self.channel.opened
        self.openssh = self.channel.software.startswith(b"OpenSSH_") and self.can(messages.FSTATVFS)
        if self.can(messages.LIMITS):
            self._extended(messages.LIMITS, expect=messages.EXTENDED_REPLY).addCallbacks(
                self._learn_limits, lambda _: None
            )

    def _learn_limits(self, reply: bytes) -> None:
        answer = MessageReader(reply)
        try:
            _, read, write, _ = (answer.long() for _ in range(4))
        except MalformedMessage:
            return
        self.read_size = min(read or _READ_SIZE, _LARGEST_READ)
        self.write_size = min(write or _WRITE_SIZE, _LARGEST_WRITE)

    def can(self, extension: bytes) -> bool:
        return extension in self.extensions

    def together(self) -> AbstractContextManager[None]:
        """Send the requests made within together, in as few packets as possible; each answer is a Deferred of its own.

        A server handles requests in order, so a request on an open handle may be sent behind its WRITEs.
        """
        return self.channel.together()

    # Names --------------------------------------------------------------------------------------------------

    async def real_path(self, path: bytes) -> bytes:
        """Return the path with every symbolic link followed; its last segment need not exist."""
        found: list[bytes] = await self.channel.request(messages.REALPATH, string(path))
        if len(found) != 1 or not found[0].startswith(b"/"):
            raise SftpError(messages.FAILURE, "a real path that is not one absolute path")
        return found[0]

    def stat(self, path: bytes) -> Deferred[Attributes | None]:
        """Return the attributes behind a name, links followed; None if nothing exists."""
        return self._look(messages.STAT, path)

    async def find(self, path: bytes) -> Attributes | None:
        """Return the attributes of a name itself, by whichever request the server allows; None if nothing exists.

        Some servers answer another code than NO_SUCH_FILE for that. Then a file exists if it can be opened.
        """
        for kind in (messages.LSTAT, messages.STAT):
            try:
                return await self._look(kind, path)
            except SftpError:
                continue
        try:
            handle = await self.open_file(path, messages.FOR_READING)
        except SftpError:
            return None
        self.close_later(handle)
        return NOTHING

    def _look(self, kind: int, path: bytes) -> Deferred[Attributes | None]:
        looking: Deferred[Attributes | None] = self.channel.request(kind, string(path))
        return looking.addErrback(_nothing)

    async def is_directory(self, path: bytes) -> bool:
        """Tell whether a directory can be read under a name, for servers that refuse to return attributes.

        Some (asyncssh's) open a directory that is not there.
        """
        try:
            handle = await self.channel.request(messages.OPENDIR, string(path))
        except SftpError:
            return False
        try:
            await self.channel.request(messages.READDIR, string(handle))
        except SftpError as refusal:
            return refusal.code == messages.EOF
        finally:
            self.close_later(handle)
        return True

    async def make_directory(self, path: bytes, mode: int) -> None:
        """Make a directory; the server applies its umask to ``mode``."""
        await self.channel.request(messages.MKDIR, string(path), Attributes(mode=mode).packed())

    async def set_by_path(self, path: bytes, attributes: Attributes) -> None:
        await self.channel.request(messages.SETSTAT, string(path), attributes.packed())

    def remove(self, path: bytes) -> Deferred[None]:
        return self.channel.request(messages.REMOVE, string(path))

    async def remove_directory(self, path: bytes) -> None:
        """Remove an empty directory."""
        await self.channel.request(messages.RMDIR, string(path))

    async def remove_file(self, path: bytes) -> None:
        """Remove a name, unless a directory has it: some servers (copyparty's) would remove that with all in it."""
        if not self.openssh:
            found = await self.find(path)
            if found is not None and found.directory:
                raise SftpError(messages.FAILURE, "Is a directory")
        await self.remove(path)

    def rename(self, old: bytes, new: bytes) -> Deferred[None]:
        """Rename to a name that nothing has."""
        return self.channel.request(messages.RENAME, string(old), string(new))

    def replace(self, old: bytes, new: bytes) -> Deferred[None]:
        """Rename atomically, replacing what has the new name; needs POSIX_RENAME."""
        return self._extended(messages.POSIX_RENAME, old, new)

    def link(self, old: bytes, new: bytes) -> Deferred[None]:
        """Give a file a second name that nothing has; needs HARD_LINK."""
        return self._extended(messages.HARD_LINK, old, new)

    async def names(self, path: bytes) -> list[bytes]:
        """Return the names in a directory, "." and ".." included."""
        handle = await self.channel.request(messages.OPENDIR, string(path))
        found: list[bytes] = []
        size = 0
        try:
            while len(found) < LONGEST_SFTP_LISTING and size < LARGEST_DOCUMENT:
                more: list[bytes] = await self.channel.request(messages.READDIR, string(handle))
                if not more:
                    break
                found += more
                size += sum(map(len, more))
        except SftpError as refusal:
            if refusal.code != messages.EOF:
                raise
        finally:
            self.close_later(handle)
        return found

    async def space(self, path: bytes) -> Space | None:
        """Return the room of the file system that a path is on, None if the server does not tell."""
        if not self.can(messages.STATVFS):
            return None
        try:
            answer = MessageReader(await self._extended(messages.STATVFS, path, expect=messages.EXTENDED_REPLY))
            _, fragment, _, _, available, _, _, _, file_system = (answer.long() for _ in range(9))
        except (SftpError, MalformedMessage):
            return None
        return Space(fragment * available, file_system)

    async def sync_directory(self, path: bytes) -> None:
        """Make renames in a directory durable, if the server lets a directory be opened for that."""
        if not self.can(messages.FSYNC):
            return
        try:
            handle = await self.open_file(path, messages.FOR_READING)
            try:
                await self.sync(handle)
            finally:
                self.close_later(handle)
        except SftpError:
            return

    # Open files ---------------------------------------------------------------------------------------------

    def open_file(self, path: bytes, flags: int, attributes: Attributes = NOTHING) -> Deferred[bytes]:
        """Open a file; fires with its handle. After cancelling, a handle that still arrives is closed."""
        return self.channel.request(messages.OPEN, string(path), number(flags), attributes.packed())

    def read(self, handle: bytes, offset: int, into: memoryview) -> Deferred[int]:
        """Read as many bytes as fit ``into`` a buffer, or fewer; fires with their count, fails with EOF at the end.

        Nothing is written to the buffer after the Deferred has fired or was cancelled.
        """
        return self.channel.request(messages.READ, string(handle), _OFFSET.pack(offset, len(into)), into=into)

    def write(self, handle: bytes, offset: int, pieces: Iterable[bytes | memoryview], size: int) -> Deferred[None]:
        """Write ``pieces``, which have ``size`` bytes in all."""
        return self.channel.request(messages.WRITE, string(handle), _OFFSET.pack(offset, size), *pieces)

    def look(self, handle: bytes, path: bytes) -> Deferred[Attributes]:
        """Return the attributes of an open file; by its path if the server refuses that for a handle.

        If the server refuses both, they are all None.
        """
        if self._looks_by_path:
            return self.channel.request(messages.STAT, string(path)).addErrback(_untold)
        looking: Deferred[Attributes] = self.channel.request(messages.FSTAT, string(handle))
        return looking.addErrback(self._look_by_path, path)

    def _look_by_path(self, failure: Failure, path: bytes) -> Deferred[Attributes]:
        if not isinstance(failure.value, SftpError):
            assert failure.value is not None
            raise failure.value
        self._looks_by_path = True
        return self.channel.request(messages.STAT, string(path)).addErrback(_untold)

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


def _nothing(failure: Failure) -> None:
    """Return None for NO_SUCH_FILE; raise any other refusal."""
    if not isinstance(failure.value, SftpError) or failure.value.code != messages.NO_SUCH_FILE:
        assert failure.value is not None
        raise failure.value


def _untold(failure: Failure) -> Attributes:
    """Return empty attributes for a refusal; raise NO_SUCH_FILE and other errors."""
    if not isinstance(failure.value, SftpError) or failure.value.code == messages.NO_SUCH_FILE:
        assert failure.value is not None
        raise failure.value
    return NOTHING


@contextmanager
def begun(*calls: Coroutine[Any, Any, Any] | Deferred[Any]) -> Iterator[list[Deferred[Any]]]:
    """Begin calls together, so that they share a round trip; those not awaited within are cancelled at the end."""
    answers = [call if isinstance(call, Deferred) else Deferred.fromCoroutine(call) for call in calls]
    try:
        yield answers
    finally:
        for answer in answers:
            answer.addErrback(lambda _: None)
            answer.cancel()


async def outcomes(*asked: Deferred[Any]) -> list[Any]:
    """Wait for every answer; return each one's value, or its exception. Cancelling cancels all."""

    def failed(failure: Failure) -> BaseException | None:
        if isinstance(failure.value, CancelledError):
            for answer in asked:
                answer.cancel()
        return failure.value

    for answer in asked:
        answer.addErrback(failed)
    # Most servers answer in order: after the last answer, the others are there.
    return [await answer for answer in reversed(asked)][::-1]
