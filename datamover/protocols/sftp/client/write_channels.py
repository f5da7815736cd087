"""Write one part file through several channels, since the server's window bounds the speed of each.

OpenSSH accepts 2 MiB a channel before it answers: at a round trip of 50 ms that is 40 MB/s. When more bytes wait than
the open channels take, the file is opened once more on an idle channel of the connection. Channels that other
transfers want are left to them. A server that is near needs only a few.
"""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from datamover.errors import DataMoverError
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.link import ChannelLease
from datamover.protocols.sftp.client.messages import SftpError
from datamover.protocols.sftp.client.session import SftpSession

FAR_CHANNELS = 8
"""Channels for one file on a far server."""
NEAR_CHANNELS = 3
"""Channels for one file on a near server: while one waits for the server's disk, the others continue."""
NEAR_FROM = 8 * 2**20
"""Bytes of a file from which several channels to a near server are worth opening."""
IN_FLIGHT = 5 * 2**19
"""Unacknowledged bytes of one channel: OpenSSH's window, and enough queued to fill it again at once."""


class WriteChannel:
    """One open handle of a file, on a leased channel."""

    def __init__(self, lease: ChannelLease, session: SftpSession, handle: bytes) -> None:
        self.lease = lease
        self.session = session
        self.handle = handle
        self.unacknowledged = 0
        """Bytes sent or queued that the server has not answered yet."""
        self._until = 0
        """Where in all that its channel sends its last request ends."""

    def write(self, offset: int, pieces: Sequence[memoryview], size: int) -> Deferred[None]:
        """Write ``size`` bytes; fires as ``SftpSession.write``."""
        self.unacknowledged += size
        answer = self.session.write(self.handle, offset, pieces, size)
        self._until = self.session.channel.posted
        return answer

    def sync(self) -> Deferred[None]:
        """Have the file written to disk."""
        answer = self.session.sync(self.handle)
        self._until = self.session.channel.posted
        return answer

    @property
    def unsent(self) -> tuple[int, int]:
        """Bytes that the connection has yet to take before all is on its way; and while there are any, its drains."""
        left = max(self._until - self.session.channel.sent, 0)
        return left, self.session.channel.drains if left else 0

    async def close(self) -> None:
        """Close the handle and release the channel; raises the server's error, such as that it could not store all."""
        try:
            await self.session.close(self.handle)
        finally:
            self.lease.release()


class WriteChannels:
    """The handles of one part file, whose path is ``real``; the first stays open to the end."""

    def __init__(self, first: WriteChannel, real: bytes, opened: Callable[[], None], *, wide: bool) -> None:
        """``opened`` is called for each further handle. Without ``wide`` the first stays the only one."""
        self._channels = [first]
        self._wide = wide
        self._real = real
        self._opened = opened
        self._opening: list[Deferred[None]] = []
        self._widest = FAR_CHANNELS
        self.were_several = False
        """Whether more than one handle was ever open."""
        self._flushing: WriteChannel | None = None

    def __len__(self) -> int:
        """Return how many are open or being opened."""
        return len(self._channels) + len(self._opening)

    @property
    def first(self) -> WriteChannel:
        return self._channels[0]

    @property
    def unsent(self) -> list[tuple[int, int]]:
        """What is not on its way yet, of each handle: while that moves, the requests on it wait for no answer."""
        return [channel.unsent for channel in self._all]

    @property
    def _all(self) -> list[WriteChannel]:
        flushing = self._flushing
        return self._channels if flushing is None or flushing is self.first else [*self._channels, flushing]

    def emptiest(self) -> WriteChannel:
        return min(self._channels, key=lambda channel: channel.unacknowledged)

    def widen(self, waiting: int, most: int, sent: int) -> None:
        """Begin to open as many more as ``waiting`` bytes fill, up to ``most``; if near, only after NEAR_FROM ``sent``.

        Returns before they are open. A failure to open one has no effect.
        """
        if not self._wide:
            return
        near = NEAR_CHANNELS if sent >= NEAR_FROM else 1
        widest = min(self._widest, most, FAR_CHANNELS if self.first.session.channel.far else near)
        while waiting > 0 and len(self) < widest:
            waiting -= IN_FLIGHT
            opening = Deferred.fromCoroutine(self._one_more())
            if not opening.called:
                self._opening.append(opening)
                opening.addBoth(self._no_longer_opening, opening)
            opening.addErrback(lambda _: None)

    def _no_longer_opening(self, result: object, opening: Deferred[None]) -> object:
        self._opening.remove(opening)
        return result

    async def for_flush(self) -> WriteChannel:
        """Return the handle for flushing the file: on a channel of its own if there is one, else the first.

        A server answers a channel's requests in order, so writes after a flush would wait for it.
        """
        if self._flushing is None:
            self._flushing = (await self._open() if self._wide else None) or self.first
        return self._flushing

    async def _one_more(self) -> None:
        channel = await self._open()
        if channel is None:
            self._widest = len(self._channels)
        else:
            self._channels.append(channel)
            self.were_several = True
            self._opened()

    async def _open(self) -> WriteChannel | None:
        """Open the file once more on an unused channel; None if that is impossible."""
        lease = self.first.lease.beside()
        try:
            session = await lease.take_spare()
            handle = None if session is None else await session.open_file(self._real, messages.FOR_WRITING)
        except (SftpError, DataMoverError):
            session = handle = None
        except BaseException:
            lease.release()
            raise
        if session is None or handle is None:
            lease.release()
            return None
        return WriteChannel(lease, session, handle)

    async def close(self) -> None:
        """Close every handle; completes when the server has answered, or the connection is lost. Raises an error."""
        for opening in tuple(self._opening):
            opening.cancel()
        closing = [Deferred.fromCoroutine(channel.close()) for channel in self._all]
        answers: list[Any] = await DeferredList(closing, consumeErrors=True)
        for closed, answer in answers:
            if not closed:
                raise answer.value
