"""The requests of SFTP as calls: what a file server can be asked, one channel, no policy.

Every call raises SftpError where the server refuses, ConnectionLost or Stalled where it does not answer. Paths are
absolute bytes.
"""

import struct
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.channel import SftpChannel
from datamover.protocols.sftp.client.messages import NOTHING, Attributes, SftpError, extended
from datamover.protocols.sftp.ssh.wire import MalformedMessage, MessageReader, number, string

_READ_SIZE = _WRITE_SIZE = 2**15
"""Bytes of a request that every server takes."""
_LARGEST_READ = 2**18
_LARGEST_WRITE = 2**18
_LONGEST_LISTING = 1_000_000

_OFFSET = struct.Struct(">QL")


class SftpSession:
    """One SFTP channel, its server's abilities known."""

    def __init__(self, channel: SftpChannel) -> None:
        self.channel = channel
        self.users = 0
        """Who has leased it."""
        self.read_size = _READ_SIZE
        self.write_size = _WRITE_SIZE
        self.extensions: dict[bytes, bytes] = {}
        self.openssh = False
        """Whether OpenSSH's own SFTP server answers: one that was tried out, and does what it says.

        Others run behind OpenSSH's sshd; they do not announce what only OpenSSH has.
        """
        self._looks_by_path = False

    async def open(self) -> None:
        """Wait for the channel and learn what the server can do; until it has told its sizes, they are small."""
        self.extensions = await self.channel.opened
        self.openssh = self.channel.software.startswith(b"OpenSSH_") and self.can(messages.FSTATVFS)
        if self.can(messages.LIMITS):
            self._extended(messages.LIMITS, expect=messages.EXTENDED_REPLY).addCallbacks(
                self._learn_limits, lambda _: None
            )

    def _learn_limits(self, told: bytes) -> None:
        answer = MessageReader(told)
        try:
            _, read, write, _ = (answer.long() for _ in range(4))
        except MalformedMessage:
            return
        self.read_size = min(read or _READ_SIZE, _LARGEST_READ)
        self.write_size = min(write or _WRITE_SIZE, _LARGEST_WRITE)

    def can(self, extension: bytes) -> bool:
        return extension in self.extensions

    def together(self) -> AbstractContextManager[None]:
        """Let what is asked within, each answer a Deferred of its own, leave at once and in as few packets as it can.

        A server does one after the other: what is asked of an open handle may stand behind its WRITEs.
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
        """Look at a name through links; None where there is nothing."""
        return self._look(messages.STAT, path)

    def link_stat(self, path: bytes) -> Deferred[Attributes | None]:
        """Look at a name itself; None where there is nothing."""
        return self._look(messages.LSTAT, path)

    async def find(self, path: bytes) -> Attributes | None:
        """Look at a name itself, by whatever way the server lets one; None where there is nothing, as far as it tells.

        Some say that nothing is there by other words than the protocol's: then it is whether anything can be opened.
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
        """Tell whether a directory can be opened under a name: the look at servers that do not let one look."""
        try:
            handle = await self.channel.request(messages.OPENDIR, string(path))
        except SftpError:
            return False
        self.close_later(handle)
        return True

    async def make_directory(self, path: bytes, mode: int) -> None:
        """Make a directory; its mode is what the server's umask leaves of this."""
        await self.channel.request(messages.MKDIR, string(path), Attributes(mode=mode).packed())

    async def set_by_path(self, path: bytes, attributes: Attributes) -> None:
        await self.channel.request(messages.SETSTAT, string(path), attributes.packed())

    def remove(self, path: bytes) -> Deferred[None]:
        return self.channel.request(messages.REMOVE, string(path))

    async def remove_directory(self, path: bytes) -> None:
        """Remove an empty directory."""
        await self.channel.request(messages.RMDIR, string(path))

    def rename(self, old: bytes, new: bytes) -> Deferred[None]:
        """Rename where nothing has the new name."""
        return self.channel.request(messages.RENAME, string(old), string(new))

    def replace(self, old: bytes, new: bytes) -> Deferred[None]:
        """Rename atomically over what has the new name; needs POSIX_RENAME."""
        return self._extended(messages.POSIX_RENAME, old, new)

    def link(self, old: bytes, new: bytes) -> Deferred[None]:
        """Give a file a second name, where nothing has it; needs HARD_LINK."""
        return self._extended(messages.HARD_LINK, old, new)

    async def names(self, path: bytes) -> list[bytes]:
        """Return what a directory lists, "." and ".." too."""
        handle = await self.channel.request(messages.OPENDIR, string(path))
        found: list[bytes] = []
        try:
            while len(found) < _LONGEST_LISTING:
                more: list[bytes] = await self.channel.request(messages.READDIR, string(handle))
                if not more:
                    break
                found += more
        except SftpError as refusal:
            if refusal.code != messages.EOF:
                raise
        finally:
            self.close_later(handle)
        return found

    async def free(self, path: bytes) -> int | None:
        """Return the bytes that an ordinary user may still write, None where the server does not tell."""
        if not self.can(messages.STATVFS):
            return None
        try:
            answer = MessageReader(await self._extended(messages.STATVFS, path, expect=messages.EXTENDED_REPLY))
            _, fragment, _, _, available = (answer.long() for _ in range(5))
        except (SftpError, MalformedMessage):
            return None
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
        except SftpError:
            return

    # Open files ---------------------------------------------------------------------------------------------

    def open_file(self, path: bytes, flags: int, attributes: Attributes = NOTHING) -> Deferred[bytes]:
        """Open a file; fires with its handle. Cancelled, a handle that still comes is closed."""
        return self.channel.request(messages.OPEN, string(path), number(flags), attributes.packed())

    def read(self, handle: bytes, offset: int, into: memoryview) -> Deferred[int]:
        """Read up to as many bytes as there is room; fires with their number, fails with the status EOF behind the end.

        Nothing is put ``into`` it any more once the answer is there, or cancelled.
        """
        return self.channel.request(messages.READ, string(handle), _OFFSET.pack(offset, len(into)), into=into)

    def write(self, handle: bytes, offset: int, pieces: Iterable[bytes | memoryview], size: int) -> Deferred[None]:
        """Write ``pieces``, ``size`` bytes together."""
        return self.channel.request(messages.WRITE, string(handle), _OFFSET.pack(offset, size), *pieces)

    def look(self, handle: bytes, path: bytes) -> Deferred[Attributes]:
        """Look at an open file; by its path, where the server does not let one look at open files.

        Where it lets one look at none, nothing is told.
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
    """Return None where there is nothing; raise any other refusal."""
    if not isinstance(failure.value, SftpError) or failure.value.code != messages.NO_SUCH_FILE:
        assert failure.value is not None
        raise failure.value


def _untold(failure: Failure) -> Attributes:
    """Return that nothing is told of what the server does not let one look at."""
    if not isinstance(failure.value, SftpError) or failure.value.code == messages.NO_SUCH_FILE:
        assert failure.value is not None
        raise failure.value
    return NOTHING


@contextmanager
def begun(*calls: Coroutine[Any, Any, Any] | Deferred[Any]) -> Iterator[list[Deferred[Any]]]:
    """Begin calls at once, so that they share a round trip, to be awaited within; others are cancelled at the end."""
    answers = [call if isinstance(call, Deferred) else Deferred.fromCoroutine(call) for call in calls]
    try:
        yield answers
    finally:
        for answer in answers:
            answer.addErrback(lambda _: None)
            answer.cancel()


async def outcomes(*asked: Deferred[Any]) -> list[Any]:
    """Wait for every answer; return what each is, or the exception that it failed with. Cancelling cancels all."""

    def failed(failure: Failure) -> BaseException | None:
        if isinstance(failure.value, CancelledError):
            for answer in asked:
                answer.cancel()
        return failure.value

    for answer in asked:
        answer.addErrback(failed)
    # Most servers answer in order: once the last has come, nothing more is waited for.
    return [await answer for answer in reversed(asked)][::-1]
