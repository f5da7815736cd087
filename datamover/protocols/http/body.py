"""The body of one answer: taken from the connection as fast as it is read, never faster.

What waits here has a bound that all bodies share (and what one read of the socket may add); then the connection is
paused, and the server feels it. What the bytes mean is left to the source that reads them.
"""

from collections import deque

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from datamover.buffers import Buffers
from datamover.errors import ConnectionLost, DataMoverError, Scope, SizeMismatch, Stalled
from datamover.protocols.http.pool import Line

ROOMS = Buffers(24 * 2**20, least=2**16, most=2**20)
"""Bytes that wait in each body, or are received at once."""
MOST_PIECES = 4096
"""Pieces as small as a few bytes each cost far more than their bytes."""
JOINED = 2**17
"""Bytes of pieces that are worth handing over one by one, rather than copied together."""
IGNORABLE = 64 * 1024
"""Bytes of a body nobody wants that are read to keep a connection, rather than dropping it."""
IGNORABLE_TIME = 1.0


class Body(Protocol):
    """The bytes of one answer, in order."""

    def __init__(self, clock: IReactorTime, line: Line, idle_timeout: float, shown: str) -> None:
        self._clock = clock
        self._line = line
        self._idle_timeout = idle_timeout
        self._shown = shown
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._paused = False
        self._waiting: Deferred[None] | None = None
        self._ended = False
        self._dropped = False
        self._error: DataMoverError | None = None
        self._gone: Deferred[None] = Deferred()
        self._leave = ROOMS.join()
        self.received = 0
        """Bytes that came, read or not."""

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        if self._dropped:
            return
        self._pieces.append(data)
        self._held += len(data)
        self.received += len(data)
        room = ROOMS.size
        self._line.receive(room)
        if self._held >= room or len(self._pieces) >= MOST_PIECES:
            self._paused = True
            self._producer.pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        self._ended = True
        self._leave()
        whole = isinstance(reason.value, ResponseDone)
        # Without a length the end of the connection is the end of the file, if it was an orderly one.
        lost = self._line.lost
        if isinstance(reason.value, PotentialDataLoss) and lost is not None and isinstance(lost.value, ConnectionDone):
            whole = True
        if not whole:
            self._error = ConnectionLost(
                f"the connection to {self._shown} broke after {self.received} bytes", scope=Scope.SOURCE
            )
        elif self._line.excess:
            self._error = SizeMismatch(
                f"{self._shown} sent more than the {self.received} bytes that it had announced", scope=Scope.SOURCE
            )
        self._wake()
        self._gone.callback(None)

    async def read(self) -> bytes:
        """Return the next bytes, b"" at the end; small pieces are joined.

        Once everything was read, raises ConnectionLost for a body that ended early and SizeMismatch for one that did
        not end where it should; raises Stalled when nothing comes for the idle timeout. Cancelling leaves the body
        fit only for ``close``.
        """
        if not self._pieces and not self._ended:
            await self._wait()
        if self._pieces:
            return self._take()
        if self._error is not None:
            raise self._error
        return b""

    async def discard(self) -> None:
        """Read a short rest, so that the connection can serve again; drop the connection of a long or slow one."""
        start = self._clock.seconds()
        self._idle_timeout = min(self._idle_timeout, IGNORABLE_TIME)
        try:
            while self.received <= IGNORABLE and self._clock.seconds() - start < IGNORABLE_TIME:
                if not await self.read():
                    return
        except (ConnectionLost, SizeMismatch, Stalled):
            pass
        finally:
            self._drop()
        await self.close()

    async def close(self) -> None:
        """Drop what is left, and the connection with it where there is something; completes when that is gone."""
        self._drop()
        if not self._ended:
            gone: Deferred[None] = Deferred()
            self._gone.chainDeferred(gone)
            await gone

    def _drop(self) -> None:
        self._dropped = True
        self._pieces.clear()
        self._held = 0
        if not self._ended:
            self._line.abortConnection()

    def _take(self) -> bytes:
        data = self._pieces.popleft()
        if self._pieces and len(data) < JOINED:
            taken, size = [data], len(data)
            while self._pieces and size < JOINED:
                piece = self._pieces.popleft()
                taken.append(piece)
                size += len(piece)
            data = b"".join(taken)
        self._held -= len(data)
        if self._paused and not self._ended and self._held < ROOMS.size // 2:
            self._paused = False
            self._producer.resumeProducing()
        return data

    async def _wait(self) -> None:
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        try:
            await waiting.addTimeout(self._idle_timeout, self._clock, onTimeoutCancel=self._stalled)
        finally:
            self._waiting = None

    def _stalled(self, _: object, seconds: float) -> None:
        raise Stalled(f"{self._shown} sent nothing for {seconds:g} s, after {self.received} bytes", scope=Scope.SOURCE)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    @property
    def _producer(self) -> IPushProducer:
        return IPushProducer(self.transport)
