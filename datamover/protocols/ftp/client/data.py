"""Data connections: ``Receiving``, and ``Sending``, which ends in such a way that the server gets every byte.

If a socket is closed while bytes from the server are unread, such as TLS 1.3's tickets, it is reset, and the server
loses the bytes that it has not read yet. So an upload ends only its own direction (FIN; in TLS close_notify), and the
socket is closed after the server has closed it or has reported the end of the transfer.
"""

# ruff: noqa: N802 - the names of what is overridden are Twisted's

from collections import deque
from collections.abc import Callable
from typing import Any

from OpenSSL.SSL import Error as OpenSSLError
from twisted.internet import error as failures
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as NoAnswer
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IPullProducer,
    IPushProducer,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from datamover import errors
from datamover.bounds.servers import MOST_DATA_PIECES
from datamover.concurrency.buffer_budgets import Buffers
from datamover.protocols.base import Octets

ROOMS = Buffers(8 * 2**20, least=2**16, most=2**20)
"""Bytes that one data connection may hold, in either direction; each joins this budget."""
SECURED = 2**18
"""Bytes that are passed to TLS at a time; a network that takes fewer within ``idle_timeout`` counts as stalled."""
JOINED = 2**18
"""Bytes; smaller pieces are joined before they are returned."""


LEFT_OPEN = 5.0
"""Seconds for which nothing comes any more of a connection over which the server has sent all, by its own words."""


@implementer(IHandshakeListener)
class Data(Protocol):
    """A data connection; ``gone`` fires when it is closed, ``ready`` when bytes may move, or it is closed.

    Of one that brings bytes, ``moved`` fires when they begin to, or it is closed.
    """

    transport: Any

    def __init__(self, clock: Any, idle_timeout: float, secure: bool) -> None:
        self._clock = clock
        self._idle_timeout = idle_timeout
        self._secure = secure
        self._socket: Any = None
        self._waiting: Deferred[None] | None = None
        self._leave: Callable[[], None] = lambda: None
        self.ready: Deferred[None] = Deferred()
        self.moved: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.ended = False
        self.left_open = False
        """Whether it was given up since the server has sent all, and does not close it."""
        self.reason: BaseException | None = None
        """What ended it; None where the other side closed it in order."""

    def connectionMade(self) -> None:
        self._socket = self.transport.transport if self._secure else self.transport
        self._leave = ROOMS.join()
        if not self._secure:
            self.ready.callback(None)

    def handshakeCompleted(self) -> None:
        if not self.ready.called:
            self.ready.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._leave()
        self.ended = True
        self.reason = None if isinstance(reason.value, ConnectionDone) else reason.value
        if not self.ready.called:
            self.ready.callback(None)
        self._wake()
        self.gone.callback(None)

    def leave(self) -> None:
        """Close the socket, after the server has reported the end of the transfer."""
        if self._socket is not None:
            self._socket.loseConnection()

    def abort(self) -> None:
        """Drop the connection, and the bytes in flight."""
        if self.transport is not None and not self.ended:
            self.transport.abortConnection()

    @property
    def trouble(self) -> str | None:
        """What went wrong with the connection, as a clause; None where it ended in order, or did not end."""
        if self.left_open:
            return "the server did not close it"
        if self.reason is None:
            return None
        if isinstance(self.reason, OpenSSLError):
            return "it ended without TLS's close_notify"
        return "it broke"

    async def _wait(self, what: str) -> None:
        self._waiting = Deferred()
        try:
            await self._waiting.addTimeout(self._idle_timeout, self._clock)
        except NoAnswer:
            raise errors.Stalled(f"{what} for {self._idle_timeout:g} s") from None

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)


class Receiving(Data):
    """Receives bytes, no faster than they are read."""

    def __init__(self, clock: Any, idle_timeout: float, secure: bool) -> None:
        super().__init__(clock, idle_timeout, secure)
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._room = 0
        self._paused = False
        self._soon: Any = None
        self._sent = False

    def connectionMade(self) -> None:
        super().connectionMade()
        self._measure()

    def dataReceived(self, data: bytes) -> None:
        if not self.moved.called:
            self.moved.callback(None)
        self._pieces.append(data)
        self._held += len(data)
        # With TLS this is called for every record: it does no more than it must.
        if not self._paused and (self._held >= self._room or len(self._pieces) >= MOST_DATA_PIECES):
            self._paused = True
            self._socket.pauseProducing()
        if self._waiting is None:
            return
        if not self._secure or self._held >= JOINED:
            self._wake()
        elif self._soon is None:
            # TLS brings each of its records by itself, and more of them at once.
            self._soon = self._clock.callLater(0, self._come)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        super().connectionLost(reason)
        if not self.moved.called:
            self.moved.callback(None)

    def all_sent(self) -> None:
        """Take note that the server has sent all: what it does not close soon then, it never does."""
        self._sent, self._idle_timeout = True, min(self._idle_timeout, LEFT_OPEN)
        self._wake()

    def _come(self) -> None:
        self._soon = None
        self._wake()

    def _measure(self) -> None:
        self._room = self._socket.bufferSize = ROOMS.size

    async def read(self) -> bytes:
        """Return the next bytes, b"" when the connection has ended, however. Raises Stalled."""
        while not self._pieces and not self.ended:
            try:
                await self._wait("nothing came over the data connection")
            except errors.Stalled:
                if not self._sent:
                    raise
                self.left_open = True
                self.abort()
                return b""
        if not self._pieces:
            return b""
        taken = [self._pieces.popleft()]
        size = len(taken[0])
        while self._pieces and size < JOINED:
            taken.append(self._pieces.popleft())
            size += len(taken[-1])
        self._held -= size
        self._measure()
        if self._paused and not self.ended:
            self._paused = False
            self._socket.resumeProducing()
        return taken[0] if len(taken) == 1 else b"".join(taken)


@implementer(IPushProducer, IPullProducer)
class Sending(Data):
    """Sends bytes, no faster than the server takes them: one ``write`` at a time.

    Without TLS they are written to the socket directly; the transport would buffer and join them.
    """

    def __init__(self, clock: Any, idle_timeout: float, secure: bool) -> None:
        super().__init__(clock, idle_timeout, secure)
        self._full = False
        self._left = memoryview(b"")
        self._finished = False

    def connectionMade(self) -> None:
        super().connectionMade()
        self._socket.bufferSize = self._socket.SEND_LIMIT = ROOMS.size
        self.transport.registerProducer(self, self._secure)

    def pauseProducing(self) -> None:
        self._full = True

    def resumeProducing(self) -> None:
        self._full = False
        if self._left:
            self._send()
        self._wake()

    def stopProducing(self) -> None:
        """Do nothing: ``connectionLost`` tells it."""

    async def write(self, data: Octets) -> None:
        """Take bytes; completes when there is room for more, or the connection has ended. Raises Stalled."""
        view = memoryview(data)
        if not self._secure and not self.ended:
            self._left = view
            self._send()
        elif self._secure:
            for start in range(0, len(view), SECURED):
                if not self.ended:
                    self.transport.write(bytes(view[start : start + SECURED]))
                await self._taken()
        await self._taken()

    async def finish(self) -> None:
        """End the sending direction; completes when that is sent after all bytes, or the connection has ended."""
        while not self.ready.called and not self.ended:
            await self._wait("nothing was taken over the data connection")
        await self._taken()
        if self.ended:
            return
        self._finished = True
        self.transport.unregisterProducer()
        if self._secure:
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    @property
    def cut_off(self) -> bool:
        """Whether it ended before the server can have all bytes; with TLS, a missing close_notify does not show it."""
        broke = self.reason is not None and not isinstance(self.reason, OpenSSLError)
        return self.ended and (broke or not self._finished)

    async def _taken(self) -> None:
        while (self._full or self._left) and not self.ended:
            await self._wait("nothing was taken over the data connection")

    def _send(self) -> None:
        """Send as much as the socket takes; it calls ``resumeProducing`` when it takes more."""
        sent = self.transport.writeSomeData(self._left)
        if isinstance(sent, int) and sent > 0:
            self._left = self._left[sent:]
        if self._left:
            # Where the connection is lost, that is found out by this, too.
            self.transport.startWriting()

    def handshakeCompleted(self) -> None:
        super().handshakeCompleted()
        self._wake()


async def connect(
    reactor: Any,
    address: str,
    port: int,
    data: Data,
    creator: IOpenSSLClientConnectionCreator | None,
    connect_timeout: float,
) -> None:
    """Connect ``data`` to a port of the address that the control connection has. Raises ConnectFailed, TimedOut."""
    kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
    endpoint: Any = kind(reactor, address, port, connect_timeout)
    if creator is not None:
        endpoint = wrapClientTLS(creator, endpoint)
    factory = Factory.forProtocol(lambda: data)
    factory.noisy = False  # The log would tell of each.
    where = f"the data connection to port {port} of {address}, which the server names,"
    try:
        await endpoint.connect(factory)
    except (failures.TimeoutError, failures.TCPTimedOutError):
        raise errors.TimedOut(
            f"{where} is not made within {connect_timeout:g} s: open the server's passive ports in the firewall"
        ) from None
    except (failures.ConnectError, OSError) as error:
        why = str(error).rstrip(".")
        raise errors.ConnectFailed(f"{where} cannot be made: {why}; are its passive ports open?") from None
