"""The body of a request: bytes, or a producer's output sent as fast as the connection takes it."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IConsumer, IDelayedCall, IPullProducer, IPushProducer, IReactorTime
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from datamover.errors import Scope, SizeMismatch
from datamover.protocols.base import Octets
from datamover.text.quantities import count

SLICE = 2**18
"""Bytes that are handed to the connection at a time."""


def unsent(transport: Any) -> int:
    """Return how many bytes a TCP transport holds that the system has not taken."""
    held: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
    return held


@implementer(IBodyProducer)
class BytesBody:
    """A body in memory; ``PolicyAgent`` sends it with the head in one write."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.length = len(content)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:  # noqa: N802
        consumer.write(self.content)
        return succeed(None)

    def pauseProducing(self) -> None:  # noqa: N802
        """Do nothing: the body is written at once."""

    resumeProducing = stopProducing = pauseProducing  # noqa: N815


@implementer(IBodyProducer)
class SlicedBody:
    """A body in memory that is sent as fast as the connection takes it; it can be sent again from its beginning."""

    repeatable = True

    def __init__(self, content: bytes) -> None:
        self.length = len(content)
        self._content = memoryview(content)
        self._turn = 0
        self._at = 0
        self._paused = False
        self._consumer: IConsumer
        self._done: Deferred[None]

    @property
    def sent(self) -> bool:
        """Whether all of it was handed to the connection."""
        return self._at >= self.length

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:  # noqa: N802
        self._turn += 1
        self._at, self._paused = 0, False
        self._consumer, self._done = consumer, Deferred()
        self._produce(self._turn)
        return self._done

    def pauseProducing(self) -> None:  # noqa: N802
        self._paused = True

    def resumeProducing(self) -> None:  # noqa: N802
        if self._paused:
            self._paused = False
            self._produce(self._turn)

    def stopProducing(self) -> None:  # noqa: N802
        self._turn += 1

    def _produce(self, turn: int) -> None:
        while not self._paused and turn == self._turn and not self.sent:
            start, self._at = self._at, self._at + SLICE
            self._consumer.write(self._content[start : self._at])  # type: ignore[arg-type]
        if turn == self._turn and self.sent and not self._done.called:
            self._done.callback(None)


@implementer(IConsumer, IPushProducer, IPullProducer)
class BodySender:
    """Sends the output of a producer; consumer to the producer, producer to the connection's transport.

    Without TLS the bytes go from where they are to the socket: the transport would copy them twice. It is then asked
    for more whenever it holds nothing (``IPullProducer``).
    """

    def __init__(
        self, producer: IBodyProducer, transport: Any, lowest: Any, failed: Callable[[BaseException], None]
    ) -> None:
        """``lowest`` is the TCP transport, below TLS if there is TLS.

        ``failed`` is called at most once: with the producer's error, or SizeMismatch if its length was wrong.
        """
        self._taken = 0
        """Bytes of the body that the producer wrote."""
        self.under_way = True
        """The producer has not finished, failed or been stopped."""
        self._producer: Any = producer
        """None once it has finished, failed or been stopped: it holds the body, and this object."""
        self._length: Any = producer.length
        self._transport = transport
        self._lowest = lowest
        self._failed = failed
        self._look: IDelayedCall | None = None
        self._direct = isinstance(transport, Connection) and not transport.TLS and self._length != UNKNOWN_LENGTH
        self._registered = self._paused = False
        self._empty = False
        """The transport holds nothing any more, such as the head."""
        self._left = memoryview(b"")
        """Bytes that the socket has not taken."""
        self._whole = False
        """The producer has finished."""

    def start(self, clock: IReactorTime, timeout: float, give_up: Callable[[], None]) -> None:
        """Begin to send. Until ``stop``, ``give_up`` is called when nothing went out for ``timeout`` seconds."""
        self._watch(clock, timeout, give_up)
        if self._direct:
            self._transport.SEND_LIMIT = SLICE
        self._transport.registerProducer(self, not self._direct)  # It asks a pull producer for bytes at once.
        self._registered = True
        maybeDeferred(self._producer.startProducing, self).addCallbacks(self._complete, self._broken)

    def stop(self) -> bool:
        """Stop the producer and the timeout; return whether the body was incomplete."""
        if self._look is not None and self._look.active():
            self._look.cancel()
        unfinished = self.under_way
        self.stopProducing()
        return unfinished

    def _watch(self, clock: IReactorTime, timeout: float, give_up: Callable[[], None]) -> None:
        seen = self._sent()

        def look() -> None:
            if self._sent() == seen:
                give_up()
            else:
                self._watch(clock, timeout, give_up)

        self._look = clock.callLater(timeout, look)

    def _sent(self) -> int:
        """Return how many bytes of the body the system has taken; with TLS, about as many."""
        return self._taken - len(self._left) - unsent(self._lowest)

    # For the producer ---------------------------------------------------------------------------------------------

    def write(self, data: Octets) -> None:
        if not self.under_way or not data:
            return
        self._taken += len(data)
        if self._length == UNKNOWN_LENGTH:
            self._transport.writeSequence([b"%x\r\n" % len(data), bytes(data), b"\r\n"])
        elif self._taken > self._length:
            self.stopProducing()
            self._failed(self._mismatch("more"))
        elif not self._direct:
            self._transport.write(bytes(data))
        elif not self._empty:
            self._transport.write(bytes(data))
            self.pauseProducing()
        elif self._left:
            self._left = memoryview(b"".join((self._left, data)))
        else:
            self._left = memoryview(data)
            self._send()
            if self._left:
                self.pauseProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: N802
        """Do nothing: the producer is already registered (see ``IBodyProducer``)."""

    def unregisterProducer(self) -> None:  # noqa: N802
        """Do nothing: the Deferred of ``startProducing`` marks the end."""

    def _complete(self, _: object) -> None:
        self._whole = True
        if not self.under_way or self._left:
            return
        self._leave()
        if self._length == UNKNOWN_LENGTH:
            self._transport.write(b"0\r\n\r\n")
        elif self._taken < self._length:
            self._failed(self._mismatch("only"))

    def _broken(self, failure: Failure) -> None:
        if self.under_way:
            self._leave()
            assert failure.value is not None
            self._failed(failure.value)

    # For the transport --------------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:  # noqa: N802
        if self.under_way and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:  # noqa: N802
        if not self.under_way or not self._registered:
            return
        self._empty = True
        self._send()
        if self._left:
            return
        if self._whole:
            self._complete(None)
        elif self._paused:
            self._paused = False
            self._producer.resumeProducing()

    def stopProducing(self) -> None:  # noqa: N802
        """Stop the producer; nothing more is sent."""
        if self.under_way:
            producer = self._producer
            self._leave()
            producer.stopProducing()

    def _send(self) -> None:
        """Send what is left, as much as the socket takes; it calls ``resumeProducing`` when it takes more."""
        if not self._left:
            return
        sent = self._transport.writeSomeData(self._left)
        if isinstance(sent, int) and sent > 0:
            self._left = self._left[sent:]
        if self._left:
            # This also detects a lost connection.
            self._transport.startWriting()

    def _leave(self) -> None:
        self.under_way = False
        # A reference cycle would keep the body in memory until the garbage collector runs.
        self._producer = None
        self._transport.unregisterProducer()

    def _mismatch(self, word: str) -> SizeMismatch:
        return SizeMismatch(
            f"the body of a request was to have {count(self._length, 'byte')}, and {word} {self._taken} came",
            scope=Scope.SOURCE,
        )
