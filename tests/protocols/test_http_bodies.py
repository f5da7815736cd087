"""Requests whose bodies are produced while they go out, as uploads are."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer
from zope.interface.verify import verifyObject

from datamover.errors import ConnectionLost, SizeMismatch, SourceForbidden, Stalled
from datamover.protocols.http.content import whole
from datamover.protocols.http.request_body import BytesBody
from tests.protocols.reading import reading, soon
from tests.servers.certificates import Authority, ServerTLS

PIECE = bytes(range(256)) * 256


@implementer(IBodyProducer)
class Pieces:
    """Produces so many pieces of 64 KiB, one at each turn of the reactor, while it is not paused."""

    def __init__(self, count: int, *, length: Any = None, error: Exception | None = None, waits: bool = False) -> None:
        """Fail with ``error`` after the last, or wait for ever, or be done."""
        self.length = count * len(PIECE) if length is None else length
        self.written = 0
        self.paused = self.stopped = False
        self._count = count
        self._error = error
        self._waits = waits
        self._done: Deferred[None] = Deferred()

    def startProducing(self, consumer: IConsumer) -> "Deferred[None]":  # noqa: N802
        self._consumer = consumer
        reactor.callLater(0, self._go_on)
        return self._done

    def pauseProducing(self) -> None:  # noqa: N802
        self.paused = True

    def resumeProducing(self) -> None:  # noqa: N802
        paused, self.paused = self.paused, False
        if paused:
            reactor.callLater(0, self._go_on)

    def stopProducing(self) -> None:  # noqa: N802
        assert not self.stopped
        self.stopped = True

    def _go_on(self) -> None:
        if self.paused or self.stopped:
            return
        if self.written < self._count:
            self.written += 1
            self._consumer.write(PIECE)
            if not self.paused:
                reactor.callLater(0, self._go_on)
        elif self._error is not None:
            self._done.errback(self._error)
        elif not self._waits:
            self._done.callback(None)


class Kept(Resource):
    """Twisted's own server: keeps what is put."""

    isLeaf = True  # noqa: N815

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.body = b""
        self.framing: tuple[Any, Any] = (None, None)

    def render_PUT(self, request: Request) -> bytes:  # noqa: N802
        self.body = request.content.read()  # type: ignore[union-attr]
        named = request.requestHeaders.getRawHeaders
        self.framing = named("content-length"), named("transfer-encoding")
        return b"kept"


@asynccontextmanager
async def listening(factory: Any, tls: ServerTLS | None = None) -> AsyncIterator[str]:
    """A server; its URL."""
    factory.noisy = False
    if tls is None:
        listener: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
    else:
        listener = cast(Any, reactor).listenSSL(0, factory, tls, interface="127.0.0.1")
    try:
        yield f"http{'s' * bool(tls)}://127.0.0.1:{listener.getHost().port}/f"
    finally:
        await maybeDeferred(listener.stopListening)


class Peer(Protocol):
    """A server's connection that does one thing when it has come about, and counts what it receives."""

    def __init__(self, begin: Callable[["Peer"], None]) -> None:
        self._begin = begin
        self.received = 0
        self.lost = False

    def connectionMade(self) -> None:  # noqa: N802
        self._begin(self)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.received += len(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        self.lost = True


@asynccontextmanager
async def peers(begin: Callable[[Peer], None]) -> AsyncIterator[tuple[str, list[Peer]]]:
    """A server that does this at each connection; its URL, and the connections."""
    made: list[Peer] = []

    def build() -> Peer:
        made.append(Peer(begin))
        return made[-1]

    async with listening(Factory.forProtocol(build)) as url:
        yield url, made
        for peer in made:
            peer.transport.abortConnection()  # type: ignore[union-attr]
        assert await soon(lambda: all(peer.lost for peer in made))


def refuse(peer: Peer) -> None:
    """Answer before anything was read, and read nothing."""
    peer.transport.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")  # type: ignore[union-attr]
    peer.transport.pauseProducing()  # type: ignore[union-attr]


def pause(peer: Peer) -> None:
    peer.transport.pauseProducing()  # type: ignore[union-attr]


def test_producers() -> None:
    """A body of bytes is a producer as any other."""
    assert verifyObject(IBodyProducer, BytesBody(b"x"))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("known", [True, False])
async def test_a_produced_body(known: bool, secure: bool, tmp_path: Path) -> None:
    """It arrives whole, by its length or in chunks, with TLS and without."""
    kept, authority = Kept(), Authority(tmp_path)
    site = Site(kept)  # type: ignore[no-untyped-call]
    async with (
        listening(site, authority.server() if secure else None) as url,
        reading(ca_file=authority.file) as client,
    ):
        for count in (400, 0, 1):
            producer = Pieces(count, length=None if known else UNKNOWN_LENGTH)
            response = await client.treq().put(url, data=producer)
            assert (await whole(response))[1] == b"kept"
            assert kept.body == PIECE * count
            assert kept.framing == (([str(count * len(PIECE))], None) if known else (None, ["chunked"]))
        assert (await whole(await client.treq().put(url, data=b"abc")))[1] == b"kept"
        assert kept.body == b"abc"


@pytest_twisted.ensureDeferred
async def test_a_server_that_does_not_take_it() -> None:
    """The producer is paused while the server takes nothing, so that memory has a bound; cancelling stops it."""
    async with peers(pause) as (url, made), reading() as client:
        producer = Pieces(4000)
        asking = client.treq().put(url, data=producer)
        assert await soon(lambda: producer.paused)
        await deferLater(reactor, 0.1, lambda: None)
        assert producer.paused
        assert producer.written < 400
        made[0].transport.resumeProducing()  # type: ignore[union-attr]
        before = producer.written
        assert await soon(lambda: producer.written > before + 100)
        asking.cancel()
        with pytest.raises(CancelledError):
            await asking
        assert producer.stopped
        assert await soon(lambda: made[0].lost)


@pytest_twisted.ensureDeferred
async def test_an_answer_before_the_end() -> None:
    """An answer that comes early ends the sending; its connection serves no other request."""
    async with peers(refuse) as (url, made), reading() as client:
        producer = Pieces(4000)
        response = await client.treq().put(url, data=producer)
        head, body = await whole(response)
        assert (head.status, body, producer.stopped) == (403, b"no", True)
        made[0].transport.resumeProducing()  # type: ignore[union-attr]
        assert await soon(lambda: made[0].lost)


@pytest_twisted.ensureDeferred
async def test_a_producer_that_fails() -> None:
    """Its error is what the request fails with, and the connection is dropped."""
    async with peers(lambda _: None) as (url, made), reading() as client:
        with pytest.raises(SourceForbidden, match="no more"):
            await client.treq().put(url, data=Pieces(3, length=UNKNOWN_LENGTH, error=SourceForbidden("no more")))
        assert await soon(lambda: made[0].lost)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("length", "told"), [(2, "more"), (4, "only")])
async def test_a_length_that_is_wrong(length: int, told: str) -> None:
    """What produces more or less than it announced is an error, and no request that a server takes for whole."""
    async with peers(lambda _: None) as (url, made), reading() as client:
        producer = Pieces(3, length=length * len(PIECE))
        with pytest.raises(
            SizeMismatch, match=f"was to have {length * len(PIECE)} bytes, and {told} {3 * len(PIECE)} came"
        ):
            await client.treq().put(url, data=producer)
        assert producer.stopped is (told == "more")
        assert await soon(lambda: made[0].lost)


@pytest_twisted.ensureDeferred
async def test_a_connection_that_breaks() -> None:
    """A connection that breaks while a body goes out stops the producer, and is not tried again."""
    async with peers(pause) as (url, made), reading() as client:
        producer = Pieces(4000)
        asking = client.treq().put(url, data=producer)
        assert await soon(lambda: producer.paused)
        made[0].transport.abortConnection()  # type: ignore[union-attr]
        with pytest.raises(ConnectionLost):
            await asking
        assert producer.stopped
        assert len(made) == 1


@pytest_twisted.ensureDeferred
async def test_nothing_goes_and_nothing_comes() -> None:
    """The time without an answer runs from the last byte that went out."""
    async with peers(lambda _: None) as (url, _), reading(idle_timeout=0.3) as client:
        for producer in (Pieces(3, length=4 * len(PIECE), waits=True), Pieces(3)):
            with pytest.raises(Stalled, match=r"did not answer for 0\.3 s"):
                await client.treq().put(url, data=producer)
