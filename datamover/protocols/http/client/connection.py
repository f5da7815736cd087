"""One connection to a web server: one request and its answer after the other.

A Twisted protocol over TCP or TLS. The pool keeps it between two requests; bytes that arrive then, or after the end of
an answer, close it.
"""

from collections.abc import Callable, Hashable
from enum import Enum
from math import inf
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer

from datamover.bounds.servers import CHUNK_STEPS_IN_READ, CHUNK_STEPS_IN_TURN_OF_ITS_OWN
from datamover.errors import DataMoverError
from datamover.protocols.http.client.fields import Excessive, MalformedHttp
from datamover.protocols.http.client.reader import AnswerReader, HeadTooLarge
from datamover.protocols.http.request_body import BodySender, unsent
from datamover.protocols.slices import next_turn

CONTINUED = 1.0
"""Seconds for which "100 Continue" is waited for before the body is sent all the same (RFC 9110 10.1.1)."""
LEAVING = 5.0
"""Seconds that a connection which is closed has for what is still to be sent: some servers answer, and read no more."""
USUAL_READ = 2**16
"""Bytes that one read of the socket may bring, unless a body asks for more."""
LEAST_READ = 2**12


class NoAnswer(Exception):
    """The server has not answered in time, over a connection that stands; ``args[0]`` is the time in seconds."""


class StaleConnection(Exception):
    """The server closed a kept connection before it answered: the request may be sent again on another."""


class Broken(Exception):
    """The connection ended before the answer; ``args[0]`` is why."""


class BodyEnd(Enum):
    """How a body ended."""

    WHOLE = "where it should"
    BROKEN = "early, with its connection"
    EXCESS = "at the length that was announced, and more came"
    BEYOND = "where more was announced than can be"


class BodyReceiver(Protocol):
    """Receives the body of one answer."""

    def begin(self, connection: "HttpConnection") -> None:
        """Called once, before the others, when the head is here."""

    def take(self, data: bytes) -> None:
        """Called with the next bytes of the body."""

    def end(self, ending: BodyEnd, reason: str = "") -> None:
        """Called once, at the end of the body; ``reason`` says why it is malformed, "" if it is not."""


class PoolOwner(Protocol):
    """Counts connections and keeps them between requests."""

    def made(self, connection: "HttpConnection") -> None: ...

    def free(self, connection: "HttpConnection") -> None: ...

    def lost(self, connection: "HttpConnection") -> None: ...


class HttpConnection(TwistedProtocol):
    """One connection, above TLS and TCP."""

    def __init__(self, pool: PoolOwner, key: Hashable) -> None:
        self.key = key
        """The pool's key: which requests it may serve."""
        self.gone: Deferred[None] = Deferred()
        """Fires when it has ended."""
        self._pool = pool
        self._reader: AnswerReader | None = None
        self._receiver: BodyReceiver
        self._answered: Deferred[AnswerReader] | None = None
        self._sending: BodySender | None = None
        """The request's body, if a producer makes it."""
        self._start_sending: IDelayedCall | None = None
        """Sends the body, if the server does not say before then whether it wants it."""
        self._begin_body: Callable[[], None]
        self._overdue: IDelayedCall | None = None
        """Gives up waiting for an answer to a request without a producer."""
        self._clock: IReactorTime
        self._turn: Deferred[None] | None = None
        """Fires in the turn of the reactor in which more is received, where what comes costs much time."""
        self._requests = 0
        self._paused = False
        self._unfinished = False
        """The answer came before the request was sent whole: the connection cannot be used again."""
        self._leaving: IDelayedCall | None = None
        """Aborts a connection that ``leave`` closes."""
        self._lost: Failure | None = None
        self._lowest: Any = None
        self._read = self._wanted = USUAL_READ
        self._bearable: float = inf
        """Bytes that bring ``CHUNK_STEPS_IN_READ`` of chunks, by those that came last."""

    def ask(
        self,
        request: bytes,
        method: bytes,
        receiver: BodyReceiver,
        *,
        clock: IReactorTime,
        timeout: float,
        producer: IBodyProducer | None = None,
        expect: bool = False,
    ) -> Deferred[AnswerReader]:
        """Send a request, and a producer's body after it; fires when the head is here.

        With ``expect``, for a request with the header Expect, the body waits until the server asks for it, or for
        ``CONTINUED`` seconds.

        An early answer stops the producer. Fails with NoAnswer if nothing is sent or received for ``timeout`` seconds,
        StaleConnection, Broken, HeadTooLarge, MalformedHttp, the producer's error, or a DataMoverError that ended the
        connection. Cancelling drops the connection.
        """
        assert self._reader is None
        self._clock = clock
        self._requests += 1
        self._reader = AnswerReader(method)
        self._receiver = receiver
        answered: Deferred[AnswerReader] = Deferred(self._cancelled)
        self._answered = answered
        if self._lost is not None:
            self._fail(self._why(self._lost.value))
        else:
            self.transport.write(request)  # type: ignore[union-attr]
            if producer is not None:
                self._sending = BodySender(producer, self.transport, self._lowest, self._fail)
                self._begin_body = lambda: self._send(clock, timeout)
                if expect:
                    self._start_sending = clock.callLater(CONTINUED, self._begin_body)
                else:
                    self._begin_body()
                return answered
            self._overdue = clock.callLater(timeout, self._not_answered, timeout)
        return answered

    def give_up(self) -> None:
        """Cancel the request and close the connection at once; ``gone`` fires soon after."""
        if self._answered is not None:
            self._answered.cancel()
        self.abort()

    # For the body -------------------------------------------------------------------------------------------------

    def receive(self, most: int) -> None:
        """Read up to ``most`` bytes from the socket at a time, and fewer where they hold many tiny chunks."""
        self._wanted = most
        most = int(min(most, self._bearable))
        if most != self._read:
            self._lowest.bufferSize = self._read = most

    def pause(self) -> None:
        """Receive nothing until ``resume``."""
        if not self._paused:
            self._paused = True
            if self._turn is None:
                self.transport.pauseProducing()  # type: ignore[union-attr]

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._turn is None:
                self.transport.resumeProducing()  # type: ignore[union-attr]

    def _wait_for_turn(self) -> None:
        """Receive nothing until a turn of the reactor in which no other connection, or document, does costly work."""
        if self._turn is None and self._lost is None:
            if not self._paused:
                self.transport.pauseProducing()  # type: ignore[union-attr]
            self._turn = next_turn(self._clock)
            self._turn.addCallback(self._has_turn)

    def _has_turn(self, _: None) -> None:
        self._turn = None
        if not self._paused and self._lost is None:
            self.transport.resumeProducing()  # type: ignore[union-attr]

    def abort(self) -> None:
        """Close it at once; ``gone`` fires soon after."""
        if self._lost is None:
            self.transport.abortConnection()  # type: ignore[union-attr]

    def leave(self) -> None:
        """Close it in good order; at once if the server does not take what is still to be sent within ``LEAVING``."""
        self._leaving = self._clock.callLater(LEAVING, self.abort)
        transport: Any = self.transport
        transport.loseConnection()
        if isinstance(transport, TLSMemoryBIOProtocol) and transport.transport is not None:
            # TLS's close_notify is written; the server's is not awaited.
            transport.transport.loseConnection()

    # For the transport --------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:  # noqa: N802
        self._lowest = self.transport
        while isinstance(self._lowest, ProtocolWrapper):
            self._lowest = self._lowest.transport
        self._pool.made(self)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        reader = self._reader
        if reader is None:
            self.abort()
            return
        try:
            body = reader.feed(data)
        except (HeadTooLarge, MalformedHttp) as error:
            self._fail(error)
            return
        if not reader.answered:
            if reader.continued:
                self._continue()
            return
        if reader.steps:
            self._bearable = max(CHUNK_STEPS_IN_READ * len(data) // reader.steps, LEAST_READ)
            self.receive(self._wanted)
            if reader.steps >= CHUNK_STEPS_IN_TURN_OF_ITS_OWN:
                self._wait_for_turn()
        receiver = self._receiver
        answered, self._answered = self._answered, None
        if answered is not None:
            self._unfinished = self._stop_sending() or unsent(self._lowest) > 0
            receiver.begin(self)
        if body:
            receiver.take(body)
        if reader.complete:
            self._finish(reader)
        elif reader.broken:
            self._fail(Excessive(reader.broken) if reader.beyond else MalformedHttp(reader.broken))
        if answered is not None:
            answered.callback(reader)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        self._lost = reason
        if self._leaving is not None and self._leaving.active():
            self._leaving.cancel()
        self._pool.lost(self)
        reader = self._reader
        if reader is not None:
            if self._answered is not None:
                self._fail(self._why(reason.value))
            else:
                # Without a length, an orderly end of the connection ends the body.
                whole = reader.until_close and isinstance(reason.value, ConnectionDone)
                self._reader = None
                self._receiver.end(BodyEnd.WHOLE if whole else BodyEnd.BROKEN)
        self.gone.callback(None)

    def _finish(self, reader: AnswerReader) -> None:
        """End an answer that is complete: keep the connection or close it."""
        self._reader = None
        if reader.reusable and not self._unfinished:
            self.resume()
            self._bearable = inf
            self.receive(USUAL_READ)
            self._pool.free(self)
        elif reader.excess:
            self.abort()
        else:
            self.leave()
        self._receiver.end(BodyEnd.EXCESS if reader.excess and reader.length is not None else BodyEnd.WHOLE)

    def _fail(self, error: BaseException) -> None:
        """End an answer with an error, and close the connection."""
        answered, self._answered, self._reader = self._answered, None, None
        self._stop_sending()
        self.abort()
        if answered is not None:
            answered.errback(error)
        else:
            ending = BodyEnd.BEYOND if isinstance(error, Excessive) else BodyEnd.BROKEN
            self._receiver.end(ending, error.args[0] if isinstance(error, MalformedHttp) else "")

    def _continue(self) -> None:
        """Send the body now, if it still waits."""
        if self._start_sending is not None:
            self._start_sending.cancel()
            self._begin_body()

    def _send(self, clock: IReactorTime, timeout: float) -> None:
        self._start_sending = None
        if self._sending is not None:
            self._sending.start(clock, timeout, lambda: self._fail(NoAnswer(timeout)))

    def _not_answered(self, seconds: float) -> None:
        self._overdue = None
        self._fail(NoAnswer(seconds))

    def _stop_sending(self) -> bool:
        """Stop a body that is being sent, or waits, and the clock; return whether the body was incomplete."""
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
        if self._start_sending is not None:
            self._start_sending.cancel()
            self._start_sending = None
        sending, self._sending = self._sending, None
        return sending is not None and sending.stop()

    def _why(self, reason: BaseException | None) -> BaseException:
        """Return the error for an answer that did not come before the connection ended."""
        if self._requests > 1 and self._reader is not None and not self._reader.begun:
            return StaleConnection()
        return reason if isinstance(reason, DataMoverError) else Broken(reason)

    def _cancelled(self, _: object) -> None:
        self._fail(CancelledError())


class HttpConnectionFactory(Factory):
    """Makes connections."""

    noisy = False

    def __init__(self, pool: PoolOwner, key: Hashable) -> None:
        self._pool = pool
        self._key = key

    def buildProtocol(self, addr: IAddress | None) -> HttpConnection:  # noqa: N802
        return HttpConnection(self._pool, self._key)
