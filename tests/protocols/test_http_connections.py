"""How connections to web servers are made, given up and bounded."""

import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from datamover.bounds.servers import MOST_BODY_PIECES
from datamover.errors import ConnectFailed, SourceNotAllowedHere, Stalled, TimedOut
from datamover.protocols.http.client import body as bodies
from tests.protocols.reading import content_of, reading, rest_of, serving, soon
from tests.servers.certificates import Authority
from tests.servers.web import Exchange, File, redirect

CONTENT = b"by one way only"


@implementer(IHostnameResolver)
class Names:
    """A name server of our own, as Twisted lets one be installed."""

    def __init__(self, table: dict[str, list[str]]) -> None:
        self.table = table
        self.asked: list[str] = []

    def resolveHostName(  # noqa: N802
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Sequence[type[IAddress]] | None = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        self.asked.append(hostName)
        for text in self.table.get(hostName, []):
            kind = IPv6Address if ":" in text else IPv4Address
            resolutionReceiver.addressResolved(kind("TCP", text, portNumber))
        resolutionReceiver.resolutionComplete()
        return None  # type: ignore[return-value]


@contextmanager
def names(table: dict[str, list[str]] | Names) -> Iterator[Names]:
    """Install a name server, or one that answers with a table."""
    known = table if isinstance(table, Names) else Names(table)
    plugged: Any = reactor
    before = plugged.installNameResolver(known)
    try:
        yield known
    finally:
        plugged.installNameResolver(before)


class Mute(Protocol):
    """Accepts a connection and sends nothing."""

    def __init__(self, connections: set[Protocol]) -> None:
        self.connections = connections

    def connectionMade(self) -> None:  # noqa: N802
        self.connections.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        self.connections.discard(self)


@asynccontextmanager
async def muteness() -> AsyncIterator[tuple[int, set[Protocol]]]:
    """A server that accepts connections and sends nothing: its port, and its connections."""
    connections: set[Protocol] = set()
    factory = Factory.forProtocol(lambda: Mute(connections))
    listener: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[arg-type]
    try:
        yield listener.getHost().port, connections
    finally:
        await listener.stopListening()
        assert await soon(lambda: not connections)


@contextmanager
def full_queue() -> Iterator[int]:
    """A port whose listener accepts no more connections."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for one in waiting:
            one.close()


@pytest_twisted.ensureDeferred
async def test_only_admitted_addresses_are_connected_to() -> None:
    """Only the addresses that the rules admit are tried, and a name is resolved once for each connection."""
    table = {
        "mixed.example": ["10.255.255.1", "127.0.0.1", "169.254.169.254"],
        "inside.example": ["10.255.255.1", "::1"],
    }
    async with serving() as web, reading(addresses=("127.0.0.1",)) as client:
        web.route("/f", File(CONTENT))
        with names(table) as known:
            for _ in range(2):
                assert await content_of(client, f"http://mixed.example:{web.port}/f") == CONTENT
            assert known.asked == ["mixed.example"]
            with pytest.raises(
                SourceNotAllowedHere, match=r"inside\.example is at 10\.255\.255\.1, which is not a public"
            ):
                await client.origin(f"http://inside.example:{web.port}/f").open()
            with pytest.raises(ConnectFailed, match=r"no address is known for unknown\.example"):
                await client.origin("http://unknown.example/f").open()
        assert web.requests[0].headers["host"] == f"mixed.example:{web.port}"


class Rebinding(Names):
    """A name server that gives the next of a name's answers at each question, and then the last one each time."""

    def resolveHostName(self, *arguments: Any, **keywords: Any) -> IHostResolution:  # noqa: N802
        host = arguments[1]
        answers = self.table[host]
        given = Names({host: answers[:1]}).resolveHostName(*arguments, **keywords)
        self.asked.append(host)
        del answers[: len(answers) > 1]
        return given


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("inside", ["127.0.0.1", "::ffff:127.0.0.1", "::1", "10.0.0.1", "169.254.169.254"])
async def test_names_that_change_their_address(inside: str) -> None:
    """The rules check the address that is connected to, for every request and every redirect."""
    table = {"a.example": ["127.0.0.2", inside], "hop.example": ["127.0.0.2"], "b.example": ["127.0.0.2", inside]}
    known = Rebinding(table)
    async with serving(interface="127.0.0.2") as web:
        web.route("/f", File(CONTENT))
        web.route("/start", redirect(f"http://a.example:{web.port}/f"))
        with names(known):
            async with reading(addresses=("127.0.0.2",)) as client:
                # The name is resolved once, and the address that was checked is connected to.
                assert await content_of(client, f"http://b.example:{web.port}/f") == CONTENT
                assert known.asked == ["b.example"]
                assert await content_of(client, f"http://hop.example:{web.port}/start") == CONTENT
            async with reading(addresses=("127.0.0.2",)) as client:
                for start in ("a.example{}/f", "b.example{}/f", "hop.example{}/start"):
                    with pytest.raises(SourceNotAllowedHere, match=r"[ab]\.example is at"):
                        await client.origin("http://" + start.format(f":{web.port}")).open()
        assert len(web.asked("/f")) == 2


@pytest_twisted.ensureDeferred
async def test_another_address_is_tried_where_one_refuses() -> None:
    """A name with several addresses is reached at the one that answers."""
    async with serving() as web, reading() as client:
        web.route("/f", File(CONTENT))
        with names({"several_homes.example": ["::1", "127.0.0.2", "127.0.0.1"]}):
            assert await content_of(client, f"http://several_homes.example:{web.port}/f") == CONTENT


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("proxied", [False, True])
async def test_a_connection_that_is_never_made(proxied: bool) -> None:
    """A connection not made within the connect timeout is given up: here the listener's queue is full."""
    with full_queue() as port:
        url = f"http://127.0.0.1:{port}"
        async with reading(connect_timeout=0.3, proxy=url if proxied else None) as client:
            with pytest.raises(TimedOut, match=r"within 0\.3 s"):
                await client.origin(f"{url}/f").open()


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_does_not_answer() -> None:
    """A tunnel that the proxy does not open within the connect timeout is given up."""
    async with muteness() as (port, _), reading(connect_timeout=0.3, proxy=f"http://127.0.0.1:{port}") as client:
        with pytest.raises(TimedOut, match=r"no connection to example\.org within 0\.3 s"):
            await client.origin("https://example.org/f").open()


@pytest_twisted.ensureDeferred
async def test_a_server_that_does_not_shake_hands() -> None:
    """A server that accepts the connection and does not answer the TLS handshake has stalled."""
    async with muteness() as (port, _), reading(idle_timeout=0.3) as client:
        with pytest.raises(Stalled, match=r"did not answer for 0\.3 s"):
            await client.origin(f"https://127.0.0.1:{port}/f").open()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("stage", ["connecting", "tunnelling", "shaking hands"])
async def test_cancelling_before_the_request(stage: str) -> None:
    """A request that is cancelled while it connects leaves no connection."""
    with full_queue() as full:
        async with muteness() as (mute, connections):
            proxy = f"http://127.0.0.1:{mute}" if stage == "tunnelling" else None
            port = full if stage == "connecting" else mute
            async with reading(proxy=proxy) as client:
                opening = Deferred.fromCoroutine(client.origin(f"https://127.0.0.1:{port}/f").open())
                if stage != "connecting":
                    assert await soon(lambda: len(connections) == 1)
                opening.cancel()
                with pytest.raises(CancelledError):
                    await opening
                assert await soon(lambda: not connections)


@pytest_twisted.ensureDeferred
async def test_closing_while_connecting() -> None:
    """Closing the client gives up a connection that is being made."""
    with full_queue() as port:
        async with reading() as client:
            opening = Deferred.fromCoroutine(client.origin(f"http://127.0.0.1:{port}/f").open())
            await client.close()
            with pytest.raises(CancelledError):
                await opening


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("in_crumbs", [False, True])
async def test_the_room_of_a_body_is_bounded(tmp_path: Path, in_crumbs: bool) -> None:
    """While nobody reads, no more is received than may be buffered, also over TLS and in chunks of a few bytes."""
    content = b"x" * ((4 if in_crumbs else 8) * 2**20)

    def crumbs(exchange: Exchange) -> None:
        exchange.write(exchange.head(200, [("Transfer-Encoding", "chunked")]))
        exchange.write(b"3\r\nxxx\r\n" * (len(content) // 3) + b"1\r\nx\r\n0\r\n\r\n")

    authority = Authority(tmp_path)
    async with serving(authority.server()) as web, reading(ca_file=authority.file) as client:
        web.route("/f", crumbs if in_crumbs else File(content))
        source = await client.origin(f"{web.url}/f").open()
        body = source._source._body  # type: ignore[attr-defined]
        assert await soon(lambda: body._paused)
        for _ in range(20):
            await task.deferLater(reactor, 0, lambda: None)
        assert body._held <= 2 * bodies.ROOMS.size
        assert len(body._pieces) <= MOST_BODY_PIECES + 2**17 // 8
        assert await rest_of(source) == content


@pytest_twisted.ensureDeferred
async def test_hints_before_the_answer() -> None:
    """Informational answers (1xx) are skipped."""

    def handler(exchange: Exchange) -> None:
        exchange.write(exchange.head(103, [("Link", "</style.css>")]) + exchange.head(100, []))
        exchange.answer(200, [], CONTENT)

    async with serving() as web, reading() as client:
        web.route("/f", handler)
        assert await content_of(client, f"{web.url}/f") == CONTENT
