"""Several channels that write one part file: a server's window bounds each of them, and bounds it hard far away.

OpenSSH takes 2 MiB a channel before it answers: at 50 ms that is 40 MB/s. So a file that more is waiting of than its
channels hold is opened once more on others of the connection that are idle. Channels that others want are left to them.
Near by a few are enough.
"""

from collections.abc import Callable

from twisted.internet.defer import Deferred, DeferredList

from datamover.errors import DataMoverError
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.link import ChannelLease
from datamover.protocols.sftp.client.messages import SftpError
from datamover.protocols.sftp.client.session import SftpSession

LANES = 8
"""For one file on a far server, of a connection's channels."""
NEAR = 3
"""For one file on a server that is near: while one waits for the server to write, the others go on."""
NEAR_FROM = 8 * 2**20
"""Bytes of a file after which more than one are worth their opening."""
LANE = 5 * 2**19
"""Bytes unacknowledged on one channel: what OpenSSH's window holds, and enough behind it to fill it again at once."""


class WriteChannel:
    """One open handle of a file, on a channel that is leased."""

    def __init__(self, lease: ChannelLease, session: SftpSession, handle: bytes) -> None:
        self.lease = lease
        self.session = session
        self.handle = handle
        self.unacknowledged = 0
        """Bytes sent, or waiting to be, and not yet answered."""

    async def close(self) -> None:
        """Close the handle and give the channel back; raises what the server says: that it could not keep the file."""
        try:
            await self.session.close(self.handle)
        finally:
            self.lease.give_back()


class Lanes:
    """The handles of one part file; the first is there from the beginning to the end. ``opened`` is told of others."""

    def __init__(self, first: WriteChannel, real: bytes, opened: Callable[[], None], *, wide: bool) -> None:
        """Prepare; unless ``wide`` there is only the first: not every server bears a file that several write to."""
        self._lanes = [first]
        self._wide = wide
        self._real = real
        self._opened = opened
        self._opening: list[Deferred[None]] = []
        self._widest = LANES
        self.were_several = False
        """Whether more than one handle was ever open."""
        self._aside: WriteChannel | None = None

    def __len__(self) -> int:
        """Return how many there are, or will be if the server lets them be opened."""
        return len(self._lanes) + len(self._opening)

    @property
    def first(self) -> WriteChannel:
        return self._lanes[0]

    def emptiest(self) -> WriteChannel:
        return min(self._lanes, key=lambda lane: lane.unacknowledged)

    def widen(self, waiting: int, most: int, sent: int) -> None:
        """Begin to open as many more as ``waiting`` bytes fill, up to ``most``; near by only once much was ``sent``.

        Without waiting for any, and without harm if they cannot be opened.
        """
        if not self._wide:
            return
        near = NEAR if sent >= NEAR_FROM else 1
        widest = min(self._widest, most, LANES if self.first.session.channel.far else near)
        while waiting > 0 and len(self) < widest:
            waiting -= LANE
            opening = Deferred.fromCoroutine(self._one_more())
            if not opening.called:
                self._opening.append(opening)
                opening.addBoth(self._no_longer_opening, opening)
            opening.addErrback(lambda _: None)

    def _no_longer_opening(self, result: object, opening: Deferred[None]) -> object:
        self._opening.remove(opening)
        return result

    async def aside(self) -> WriteChannel:
        """Return a handle to have the file flushed by: of a channel of its own where there is one, else the first.

        A server answers a channel's requests one after the other: what is written behind a flush waits for it.
        """
        if self._aside is None:
            self._aside = (await self._open() if self._wide else None) or self.first
        return self._aside

    async def _one_more(self) -> None:
        lane = await self._open()
        if lane is None:
            self._widest = len(self._lanes)
        else:
            self._lanes.append(lane)
            self.were_several = True
            self._opened()

    async def _open(self) -> WriteChannel | None:
        """Open the file once more, on a channel that nobody uses; None where that cannot be."""
        lease = self.first.lease.beside()
        try:
            session = await lease.take_spare()
            handle = None if session is None else await session.open_file(self._real, messages.FOR_WRITING)
        except (SftpError, DataMoverError):
            session = handle = None
        except BaseException:
            lease.give_back()
            raise
        if session is None or handle is None:
            lease.give_back()
            return None
        return WriteChannel(lease, session, handle)

    async def close(self) -> None:
        """Close every handle; completes when the server has answered, or cannot. Raises what it says to any of them."""
        for opening in tuple(self._opening):
            opening.cancel()
        lanes = [*self._lanes, *([self._aside] if self._aside not in (None, self.first) else ())]
        closing = [Deferred.fromCoroutine(lane.close()) for lane in lanes if lane is not None]
        for closed, answer in await DeferredList(closing, consumeErrors=True):
            if not closed:
                raise answer.value
