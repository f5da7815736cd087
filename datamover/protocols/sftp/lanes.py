"""Several channels that write one part file: a server's window bounds each of them, and bounds it hard far away.

OpenSSH takes 2 MiB a channel before it answers: at 50 ms that is 40 MB/s. So a file whose channel is full while others
of the connection are idle is opened once more on one of those. Channels that others want are left to them.
"""

from twisted.internet.defer import Deferred

from datamover.errors import DataMoverError
from datamover.protocols.sftp import messages
from datamover.protocols.sftp.link import Lease
from datamover.protocols.sftp.messages import Status
from datamover.protocols.sftp.session import Session

LANES = 4
"""For one file, of a connection's channels."""


class Lane:
    """One open handle of a file, on a channel that is leased."""

    def __init__(self, lease: Lease, session: Session, handle: bytes) -> None:
        self.lease = lease
        self.session = session
        self.handle = handle
        self.unacknowledged = 0
        """Bytes sent, or waiting to be, and not yet answered."""

    async def close(self) -> None:
        """Close the handle and give the channel back; what goes wrong then takes nothing from what was done."""
        try:
            await self.session.close(self.handle)
        except (Status, DataMoverError):
            pass
        finally:
            self.lease.give_back()


class Lanes:
    """The handles of one part file; the first is there from the beginning to the end."""

    def __init__(self, first: Lane, real: bytes) -> None:
        self._lanes = [first]
        self._real = real
        self._widening: Deferred[None] | None = None
        self._widest = LANES
        self._aside: Lane | None = None

    @property
    def first(self) -> Lane:
        return self._lanes[0]

    def emptiest(self) -> Lane:
        return min(self._lanes, key=lambda lane: lane.unacknowledged)

    def widen(self) -> None:
        """Begin to open one more where all are full; without waiting, and without harm if it cannot be."""
        narrow = len(self._lanes) < self._widest and self._widening is None
        if narrow and all(lane.session.channel.held_back for lane in self._lanes):
            self._widening = Deferred.fromCoroutine(self._one_more())
            self._widening.addErrback(lambda _: None)

    async def aside(self) -> Lane:
        """Return a handle to have the file flushed by: of a channel of its own where there is one, else the first.

        A server answers a channel's requests one after the other: what is written behind a flush waits for it.
        """
        if self._aside is None:
            self._aside = await self._opened() or self.first
        return self._aside

    async def _one_more(self) -> None:
        lane = await self._opened()
        if lane is None:
            self._widest = len(self._lanes)
        else:
            self._lanes.append(lane)
        self._widening = None

    async def _opened(self) -> Lane | None:
        """Open the file once more, on a channel that nobody uses; None where that cannot be."""
        lease = self.first.lease.beside()
        try:
            session = await lease.take_spare()
            handle = None if session is None else await session.open_file(self._real, messages.FOR_WRITING)
        except (Status, DataMoverError):
            session = handle = None
        except BaseException:
            lease.give_back()
            raise
        if session is None or handle is None:
            lease.give_back()
            return None
        return Lane(lease, session, handle)

    async def close(self) -> None:
        """Close every handle; completes when the server has answered, or cannot."""
        if self._widening is not None:
            self._widening.cancel()
        aside = [] if self._aside in (None, self.first) else [self._aside]
        for closing in [Deferred.fromCoroutine(lane.close()) for lane in (*self._lanes, *aside) if lane is not None]:
            await closing
