"""One connection to a web server: requests one after the other, and the answer to each.

Written onto Twisted's transports, TCP or TLS. It is kept by the pool between two requests; what comes then, or after
an answer's end, is nobody's, and ends it.
"""

from collections.abc import Hashable
from enum import Enum
from typing import Any, NoReturn, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer

from datamover.errors import DataMoverError
from datamover.protocols.http.client.fields import Excessive, Malformed
from datamover.protocols.http.client.reader import AnswerReader, HeadTooLarge
from datamover.protocols.http.request_body import Sending

USUAL_READ = 2**16
"""Bytes that the system is asked for at a time, where a body does not ask for more."""


class NoAnswer(Exception):
    """The connection stands, and the server has not answered in time; ``args[0]`` is that time in seconds."""


class StaleConnection(Exception):
    """A kept connection was closed by the server before it answered: the request may be sent again on another."""


class Broken(Exception):
    """The connection ended before it brought an answer; ``args[0]`` is why."""


class Ending(Enum):
    """How a body ended."""

    WHOLE = "where it should"
    BROKEN = "early, with its connection"
    EXCESS = "at the length that was announced, and more came"
    BEYOND = "where more was announced than can be"


class BodyReceiver(Protocol):
    """Takes the body of one answer."""

    def begin(self, connection: "Connection") -> None:
        """The head is here; called once, before all else, if at all."""

    def take(self, data: bytes) -> None:
        """The next bytes of the body."""

    def end(self, ending: Ending, reason: str = "") -> None:
        """No more comes; called once, after ``begin``; ``reason`` is what is wrong with what came, "" if nothing is."""


class PoolOwner(Protocol):
    """Counts connections, and keeps them between two requests."""

    def made(self, connection: "Connection") -> None: ...

    def free(self, connection: "Connection") -> None: ...

    def lost(self, connection: "Connection") -> None: ...


class Connection(TwistedProtocol):
    """One connection, above TLS and TCP."""

    def __init__(self, keeper: PoolOwner, key: Hashable) -> None:
        self.key = key
        """What it was made for."""
        self.gone: Deferred[None] = Deferred()
        """Fires when it has ended."""
        self._keeper = keeper
        self._reader: AnswerReader | None = None
        self._taker: BodyReceiver
        self._answered: Deferred[AnswerReader] | None = None
        self._sending: Sending | None = None
        """The request's body, where that is produced."""
        self._requests = 0
        self._paused = False
        self._unfinished = False
        """The answer came before the end of what was asked: nothing else can be asked here."""
        self._lost: Failure | None = None
        self._lowest: Any = None
        self._read = USUAL_READ

    def ask(
        self,
        request: bytes,
        method: bytes,
        taker: BodyReceiver,
        *,
        clock: IReactorTime,
        timeout: float,
        producer: IBodyProducer | None = None,
    ) -> Deferred[AnswerReader]:
        """Send a request, and what ``producer`` brings; fires when the head is here, and what came with it was taken.

        An answer that comes before the end of what is produced ends that. Fails with NoAnswer where nothing went or
        came for ``timeout`` seconds, StaleConnection, Broken, HeadTooLarge, Malformed, what the producer fails with,
        or an error of ours that ended the connection. Cancelling drops the connection.
        """
        assert self._reader is None
        self._requests += 1
        self._reader = AnswerReader(method)
        self._taker = taker
        answered: Deferred[AnswerReader] = Deferred(self._cancelled)
        self._answered = answered
        if self._lost is not None:
            self._fail(self._why(self._lost.value))
        else:
            self.transport.write(request)  # type: ignore[union-attr]
            if producer is not None:
                self._sending = Sending(producer, self.transport, self._fail)
                self._sending.start(clock, timeout, lambda: self._fail(NoAnswer(timeout)))
                return answered
        return answered.addTimeout(timeout, clock, onTimeoutCancel=_not_answered)

    def give_up(self) -> None:
        """Cancel what waits for an answer, and end the connection at once; ``gone`` fires soon after."""
        if self._answered is not None:
            self._answered.cancel()
        self.abort()

    # For the body -------------------------------------------------------------------------------------------------

    def receive(self, most: int) -> None:
        """Have the system asked for so many bytes at a time: each call of it costs, and all that follows."""
        if most != self._read:
            self._lowest.bufferSize = self._read = most

    def pause(self) -> None:
        """Take nothing more in until ``resume``."""
        if not self._paused:
            self._paused = True
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()  # type: ignore[union-attr]

    def abort(self) -> None:
        """End it at once; ``gone`` fires soon after."""
        if self._lost is None:
            self.transport.abortConnection()  # type: ignore[union-attr]

    def leave(self) -> None:
        """End it in good order, waiting for nobody."""
        transport: Any = self.transport
        transport.loseConnection()
        if isinstance(transport, TLSMemoryBIOProtocol) and transport.transport is not None:
            # Its goodbye is written; the other side's is not waited for.
            transport.transport.loseConnection()

    # For the transport --------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:  # noqa: N802
        self._lowest = self.transport
        while isinstance(self._lowest, ProtocolWrapper):
            self._lowest = self._lowest.transport
        self._keeper.made(self)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        reader = self._reader
        if reader is None:
            self.abort()
            return
        try:
            body = reader.feed(data)
        except (HeadTooLarge, Malformed) as error:
            self._fail(error)
            return
        if not reader.answered:
            return
        taker = self._taker
        answered, self._answered = self._answered, None
        if answered is not None:
            self._unfinished = self._stop_sending()
            taker.begin(self)
        if body:
            taker.take(body)
        if reader.complete:
            self._finish(reader)
        elif reader.broken:
            self._fail(Excessive(reader.broken) if reader.beyond else Malformed(reader.broken))
        if answered is not None:
            answered.callback(reader)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        self._lost = reason
        self._keeper.lost(self)
        reader = self._reader
        if reader is not None:
            if self._answered is not None:
                self._fail(self._why(reason.value))
            else:
                # Without a length the end of the connection is the end of the file, if it was an orderly one.
                whole = reader.until_close and isinstance(reason.value, ConnectionDone)
                self._reader = None
                self._taker.end(Ending.WHOLE if whole else Ending.BROKEN)
        self.gone.callback(None)

    def _finish(self, reader: AnswerReader) -> None:
        """Let go of an answer that is here to its end."""
        self._reader = None
        if reader.reusable and not self._unfinished:
            self.resume()
            self.receive(USUAL_READ)
            self._keeper.free(self)
        elif reader.excess:
            self.abort()
        else:
            self.leave()
        self._taker.end(Ending.EXCESS if reader.excess and reader.length is not None else Ending.WHOLE)

    def _fail(self, error: BaseException) -> None:
        """Give an answer up, and the connection with it."""
        answered, self._answered, self._reader = self._answered, None, None
        self._stop_sending()
        self.abort()
        if answered is not None:
            answered.errback(error)
        else:
            ending = Ending.BEYOND if isinstance(error, Excessive) else Ending.BROKEN
            self._taker.end(ending, error.args[0] if isinstance(error, Malformed) else "")

    def _stop_sending(self) -> bool:
        """Stop what is still produced; tell whether there was something."""
        sending, self._sending = self._sending, None
        return sending is not None and sending.stop()

    def _why(self, reason: BaseException | None) -> BaseException:
        """Return the error for an answer that did not come before the connection ended."""
        if self._requests > 1 and self._reader is not None and not self._reader.begun:
            return StaleConnection()
        return reason if isinstance(reason, DataMoverError) else Broken(reason)

    def _cancelled(self, _: object) -> None:
        self._fail(CancelledError())


class Connections(Factory):
    """Makes connections."""

    noisy = False

    def __init__(self, keeper: PoolOwner, key: Hashable) -> None:
        self._keeper = keeper
        self._key = key

    def buildProtocol(self, addr: IAddress | None) -> Connection:  # noqa: N802
        return Connection(self._keeper, self._key)


def _not_answered(_: object, seconds: float) -> NoReturn:
    raise NoAnswer(seconds)
