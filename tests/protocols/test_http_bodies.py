"""Requests whose bodies are produced while they go out, as uploads are."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer
from zope.interface.verify import verifyObject

from datamover.errors import ConnectionLost, SizeMismatch, SourceForbidden, Stalled
from datamover.protocols.http.client import connection
from datamover.protocols.http.content import whole
from datamover.protocols.http.request_body import BytesBody
from datamover.web.url import WebUrl
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
async def listening(factory: Any, tls: ServerTLS | None = None, room: int | None = None) -> AsyncIterator[str]:
    """A server; its URL. ``room``: bytes that the system receives for a connection before they are read."""
    factory.noisy = False
    if tls is None:
        listener: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
    else:
        listener = cast(Any, reactor).listenSSL(0, factory, tls, interface="127.0.0.1")
    if room is not None:
        listener.socket.setsockopt(SOL_SOCKET, SO_RCVBUF, room)
    try:
        yield f"http{'s' * bool(tls)}://127.0.0.1:{listener.getHost().port}/f"
    finally:
        await maybeDeferred(listener.stopListening)


class Peer(Protocol):
    """A server's connection that calls ``begin`` when it is made, and counts the bytes that it receives."""

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
    """``BytesBody`` provides ``IBodyProducer``."""
    assert verifyObject(IBodyProducer, BytesBody(b"x"))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("known", [True, False])
async def test_a_produced_body(known: bool, secure: bool, tmp_path: Path) -> None:
    """The body arrives whole, with a length or in chunks, with TLS and without."""
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
    """The producer is paused while the server reads nothing, so that memory is bounded; cancelling stops it."""
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
    """An early answer stops the producer; the connection is not used again."""
    async with peers(refuse) as (url, made), reading() as client:
        producer = Pieces(4000)
        response = await client.treq().put(url, data=producer)
        head, body = await whole(response)
        assert (head.status, body, producer.stopped) == (403, b"no", True)
        made[0].transport.resumeProducing()  # type: ignore[union-attr]
        assert await soon(lambda: made[0].lost)


class AtOnce(Pieces):
    """Produces all in one write, to a connection of which the system holds little, as over a slow network."""

    def startProducing(self, consumer: IConsumer) -> "Deferred[None]":  # noqa: N802
        transport: Any = consumer._transport  # type: ignore[attr-defined]
        below: Any = transport.transport if isinstance(transport, TLSMemoryBIOProtocol) else transport
        below.getHandle().setsockopt(SOL_SOCKET, SO_SNDBUF, 2**13)
        return super().startProducing(consumer)

    def _go_on(self) -> None:
        if self.written < self._count:
            self.written = self._count
            self._consumer.write(PIECE * self._count)
            self._done.callback(None)


def _read_slowly(peer: Peer) -> None:
    if not peer.lost:
        peer.transport.resumeProducing()  # type: ignore[union-attr]
        reactor.callLater(0.05, _read_slowly, peer)


class Slow(Peer):
    """Reads a little at a time, and answers when it has received so many bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(_read_slowly)
        self._size = size

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        super().dataReceived(data)
        if self.received < self._size:
            self.transport.pauseProducing()  # type: ignore[union-attr]
        else:
            self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")  # type: ignore[union-attr]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("secure", [True, False])
async def test_a_slow_network(secure: bool, tmp_path: Path) -> None:
    """A request has not stalled as long as bytes go out, even if a single write takes longer than the timeout."""
    authority, body = Authority(tmp_path), AtOnce(4)
    factory = Factory.forProtocol(lambda: Slow(body.length))
    async with (
        listening(factory, authority.server() if secure else None, room=2**12) as url,
        reading(ca_file=authority.file, idle_timeout=0.4) as client,
    ):
        began = reactor.seconds()
        assert (await client.treq().put(url, data=body)).code == 204
        assert reactor.seconds() > began + 0.8


class Abrupt(Peer):
    """Answers soon after the first bytes, and reads no more."""

    def __init__(self) -> None:
        super().__init__(lambda _: None)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        pause(self)
        reactor.callLater(0.1, refuse, self)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("secure", [True, False])
async def test_a_server_that_answers_and_reads_nothing(
    secure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is closed soon after the answer, although the server takes nothing of what is left to send."""
    monkeypatch.setattr(connection, "LEAVING", 0.2)
    authority, made = Authority(tmp_path), Abrupt()
    factory = Factory.forProtocol(lambda: made)
    async with (
        listening(factory, authority.server() if secure else None, room=2**12) as url,
        reading(ca_file=authority.file) as client,
    ):
        response = await client.treq().put(url, data=AtOnce(40, length=UNKNOWN_LENGTH))
        assert (await whole(response)).body == b"no"
        assert client._agent.busy(WebUrl.parse(url)) == 1
        assert await soon(lambda: client._agent.busy(WebUrl.parse(url)) == 0)
        made.transport.abortConnection()  # type: ignore[union-attr]
        assert await soon(lambda: made.lost)


@pytest_twisted.ensureDeferred
async def test_a_producer_that_fails() -> None:
    """The request fails with the producer's error, and the connection is closed."""
    async with peers(lambda _: None) as (url, made), reading() as client:
        with pytest.raises(SourceForbidden, match="no more"):
            await client.treq().put(url, data=Pieces(3, length=UNKNOWN_LENGTH, error=SourceForbidden("no more")))
        assert await soon(lambda: made[0].lost)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("length", "told"), [(2, "more"), (4, "only")])
async def test_a_length_that_is_wrong(length: int, told: str) -> None:
    """A producer of more or fewer bytes than announced is an error, and the server does not get a complete request."""
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
    """A connection that breaks while a body is sent stops the producer, and the request is not repeated."""
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
    """The timeout of the answer runs from the last byte that was sent."""
    async with peers(lambda _: None) as (url, _), reading(idle_timeout=0.3) as client:
        for producer in (Pieces(3, length=4 * len(PIECE), waits=True), Pieces(3)):
            with pytest.raises(Stalled, match=r"did not answer for 0\.3 s"):
                await client.treq().put(url, data=producer)
