"""Connections to web servers: kept alive for the next request, dropped for certain, and watched while they serve.

Twisted's pool and HTTP/1.1 protocol do the work. What is added: which connection an answer came by, why a connection
ended, a bound on the head of an answer, and an end to TLS connections whose other side never says goodbye.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web.client import (  # type: ignore[attr-defined]  # its __all__ leaves RequestNotSent out
    HTTPConnectionPool,
    RequestNotSent,
    RequestTransmissionFailed,
    ResponseNeverReceived,
)
from twisted.web.iweb import IResponse
from zope.interface import implementer

from datamover.errors import DataMoverError

KEPT_PER_HOST = 32
KEPT_FOR = 30.0
"""Seconds that an idle connection is kept; servers close theirs after 5 to 75."""
LARGEST_HEAD = 2**20


class NoAnswer(Exception):
    """The connection stands, and the server has not answered in time; ``args[0]`` is that time in seconds."""


class NoConnection(Exception):
    """The connection was not made in time; ``args[0]`` is that time in seconds."""


class HeadTooLarge(Exception):
    """The server sent more than ``LARGEST_HEAD`` bytes before the body."""


class StaleConnection(Exception):
    """A kept connection was closed by the server before it answered: the request may be sent again on another."""


class Line(ProtocolWrapper):
    """One connection, below Twisted's HTTP protocol and above TLS and TCP."""

    lost: Failure | None = None
    """Why it ended, once it has."""
    requests = 0
    head_left: int | None = None
    """Bytes that the head of the answer may still take, None while a body is read."""
    body_left: int | None = None
    """Bytes of the body that are still to come, None where the server did not announce them."""
    excess = False
    """More came than was announced."""

    def __init__(self, factory: "_Lines", protocol: IProtocol) -> None:
        super().__init__(factory, protocol)
        self.gone: Deferred[None] = Deferred()
        self._handed_on: Deferred[None] | None = None
        self._lines = factory.lines
        self._lines.add(self)
        self._lowest: Any = None
        """What receives."""

    def connectionMade(self) -> None:  # noqa: N802
        self._lowest = self.transport
        while isinstance(self._lowest, ProtocolWrapper):
            self._lowest = self._lowest.transport
        super().connectionMade()  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        """Prepare for the answer to one more request."""
        self.requests += 1
        self.head_left, self.body_left, self.excess = LARGEST_HEAD, None, False

    def answered(self, response: IResponse) -> Deferred["Answer"]:
        """Return the answer once what came together with its head is handed on, so that all of it is counted."""
        self.head_left = None
        self.body_left = response.length if isinstance(response.length, int) else None
        self._handed_on = Deferred()
        return self._handed_on.addCallback(lambda _: Answer(response, self))

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        # The head is handed on line by line: only so is it known where the body begins.
        start = 0
        while self.head_left is not None and start < len(data):
            end = data.find(b"\n", start) + 1 or len(data)
            self.head_left -= end - start
            if self.head_left < 0:
                self.abortConnection()
                return
            super().dataReceived(data[start:end])  # type: ignore[no-untyped-call]
            start = end
        if start < len(data):
            self._body_received(data[start:] if start else data)
        handed_on, self._handed_on = self._handed_on, None
        if handed_on is not None:
            handed_on.callback(None)

    def receive(self, most: int) -> None:
        """Have the system asked for so many bytes at a time: each call of it costs, and all that follows."""
        self._lowest.bufferSize = most

    def _body_received(self, data: bytes) -> None:
        if self.body_left is not None:
            self.excess = len(data) > self.body_left
            data = data[: self.body_left] if self.excess else data
            self.body_left -= len(data)
        if data:
            super().dataReceived(data)  # type: ignore[no-untyped-call]
        if self.excess:
            self.abortConnection()

    def loseConnection(self) -> None:  # noqa: N802
        super().loseConnection()  # type: ignore[no-untyped-call]
        if isinstance(self.transport, TLSMemoryBIOProtocol) and self.transport.transport is not None:
            # Its goodbye is written; the other side's is not waited for.
            self.transport.transport.loseConnection()

    def abortConnection(self) -> None:  # noqa: N802
        if self.lost is None and self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        self.lost = reason
        self._lines.discard(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.gone.callback(None)


class _Lines(WrappingFactory[Line]):
    noisy = False
    protocol = Line

    def __init__(self, wrapped: IProtocolFactory, lines: set[Line]) -> None:
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        wrapped.noisy = False  # type: ignore[attr-defined]
        self.lines = lines


@implementer(IStreamClientEndpoint)
@dataclass(frozen=True, slots=True, eq=False)
class _Watched:
    """An endpoint whose connections are Lines, and made within ``timeout`` seconds or not at all."""

    endpoint: IStreamClientEndpoint
    pool: "Pool"

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        connecting: Deferred[Any] = self.endpoint.connect(_Lines(factory, self.pool.lines))
        connecting.addTimeout(self.pool.connect_timeout, self.pool.clock, onTimeoutCancel=_not_connected)
        return connecting.addCallbacks(lambda line: line.wrappedProtocol, _cancelled_plainly)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose body was not asked for yet, and the line it came by."""

    response: IResponse
    line: Line


@dataclass(frozen=True, slots=True, eq=False)
class _Lane:
    """One turn of a connection: what the agent sends its request to."""

    connection: Any
    pool: "Pool"

    def request(self, request: Any) -> Deferred[Answer]:
        line: Line = self.connection.transport
        line.begin()
        kept = line.requests > 1

        def failed(failure: Failure) -> Failure:
            line.abortConnection()
            if line.head_left is not None and line.head_left < 0:
                return _failure(HeadTooLarge())
            return _reason(failure, kept)

        answer: Deferred[Any] = self.connection.request(request)
        answer.addTimeout(self.pool.idle_timeout, self.pool.clock, onTimeoutCancel=_not_answered)
        return answer.addCallbacks(line.answered, failed)


class Pool(HTTPConnectionPool):
    """Connections that are kept; a request's result is an ``Answer``.

    A request fails with NoConnection, NoAnswer, HeadTooLarge, StaleConnection, CancelledError, an error of ours that
    the endpoint raised, or what Twisted makes of a broken connection.
    """

    retryAutomatically = False  # noqa: N815
    maxPersistentPerHost = KEPT_PER_HOST  # noqa: N815
    cachedConnectionTimeout = KEPT_FOR  # type: ignore[assignment]  # noqa: N815

    def __init__(self, clock: IReactorTime, *, connect_timeout: float, idle_timeout: float) -> None:
        super().__init__(clock, persistent=True)  # type: ignore[no-untyped-call]
        self.clock = clock
        self.connect_timeout = connect_timeout
        self.idle_timeout = idle_timeout
        self.lines: set[Line] = set()

    def getConnection(self, key: Hashable, endpoint: IStreamClientEndpoint) -> Deferred[Any]:  # noqa: N802
        found: Deferred[Any] = super().getConnection(key, _Watched(endpoint, self))
        return found.addCallback(_Lane, self)

    async def close(self) -> None:
        """Drop every connection, busy ones too; completes when they are gone."""
        self.closeCachedConnections()  # type: ignore[no-untyped-call]
        for line in list(self.lines):
            gone: Deferred[None] = Deferred()
            line.gone.chainDeferred(gone)
            line.abortConnection()
            await gone


def _not_connected(_: object, seconds: float) -> None:
    raise NoConnection(seconds)


def _not_answered(_: object, seconds: float) -> None:
    raise NoAnswer(seconds)


def _cancelled_plainly(failure: Failure) -> Failure:
    return _failure(CancelledError()) if isinstance(failure.value, ConnectingCancelledError) else failure


def _reason(failure: Failure, kept: bool) -> Failure:
    """Return what lies under Twisted's wrapping: a cancellation, an error of ours, a stale connection."""
    error = failure.value
    for inner in getattr(error, "reasons", ()):
        if isinstance(inner.value, CancelledError | DataMoverError):
            return _failure(inner.value)
    if kept and isinstance(error, RequestNotSent | RequestTransmissionFailed | ResponseNeverReceived):
        return _failure(StaleConnection())
    return failure


def _failure(error: BaseException) -> Failure:
    return Failure(error)  # type: ignore[no-untyped-call]


__all__ = ["Answer", "HeadTooLarge", "Line", "NoAnswer", "NoConnection", "Pool", "StaleConnection"]
