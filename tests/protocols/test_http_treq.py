"""treq over this service's agent."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from random import Random
from typing import Any, cast

import pytest
import pytest_twisted
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IClientRequest, IResponse
from zope.interface.verify import verifyObject

from datamover.config import schema
from datamover.errors import ConnectionLost, InvalidRequest, SourceNotAllowedHere, UnsupportedScheme
from datamover.protocols.http.client.agent import PolicyAgent
from datamover.protocols.http.client.body import ROOMS
from datamover.protocols.http.content import beginning, whole
from datamover.protocols.http.treq_client import TreqClient
from datamover.protocols.tls.files import TlsFiles
from datamover.protocols.tls.verified import VerifiedTLS
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import SourcePolicy
from tests.protocols.reading import LOCAL, reading, serving, soon
from tests.servers.web import Exchange, File, redirect, silent, status

CONTENT = Random(2).randbytes(8_000_000)


@asynccontextmanager
async def agent(**sources: Any) -> AsyncIterator[PolicyAgent]:
    """An agent whose rules are these keys of ``[sources]``."""
    rules = schema.Sources(**{"allow_addresses": LOCAL, **sources})
    made = PolicyAgent(
        reactor,
        SourcePolicy.from_config(rules),
        SourceCredentials.from_config(rules),
        connect_timeout=5.0,
        idle_timeout=5.0,
        tls=VerifiedTLS(TlsFiles("http"), reactor.seconds),
    )
    try:
        yield made
    finally:
        await made.close()


class Reader(Protocol):
    """Receives a body, and may pause after each piece."""

    def __init__(self, *, pausing: bool = False) -> None:
        self.received = b""
        self.pieces = 0
        self.ended: Deferred[BaseException | None] = Deferred()
        self.pausing = pausing

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.received += data
        self.pieces += 1
        if self.pausing:
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        self.ended.callback(reason.value)


def told(exchange: Exchange) -> None:
    """Answer with the request's method, target, headers and body."""
    request = exchange.request
    names = ("authorization", "content-type", "content-length", "accept-encoding", "cookie")
    headers = {name: request.headers.get(name) for name in names}
    body = {"method": request.method, "target": request.target, "body": request.body.decode(), **headers}
    exchange.answer(
        200, [("Content-Type", "application/json"), ("Set-Cookie", "a=1; Path=/")], json.dumps(body).encode()
    )


@pytest_twisted.ensureDeferred
async def test_what_twisted_expects() -> None:
    """Agent, response and request provide Twisted's interfaces, with treq and without it."""
    async with serving() as web, agent() as made:
        web.route("/f", File(b"abc", headers=[("X-A", "1"), ("X-A", "2")]))
        url = f"{web.url}/f"
        assert verifyObject(IAgent, made)
        response = await made.request(b"GET", url.encode())
        assert verifyObject(IResponse, response)
        assert verifyObject(IClientRequest, response.request)
        assert (response.version, response.code, response.phrase, response.length) == ((b"HTTP", 1, 1), 200, b"OK", 3)
        assert response.headers.getRawHeaders("x-a") == ["1", "2"]
        assert (response.request.method, response.request.absoluteURI) == (b"GET", url.encode())
        assert (await whole(response))[1] == b"abc"
        plain = HTTPClient(made)
        assert await (await plain.get(url)).content() == b"abc"
        assert (await plain.head(url)).length == 0


@pytest_twisted.ensureDeferred
async def test_treqs_own_ways() -> None:
    """treq's params, json, data and auth work as usual."""
    async with serving() as web, reading() as client:
        web.route("/t", told)
        treq, url = client.treq(), f"{web.url}/t"
        got = json.loads((await whole(await treq.get(f"{url}?a=b", params={"c": "d é"})))[1])
        assert got["target"] == "/t?a=b&c=d+%C3%A9"
        posted = json.loads((await whole(await treq.post(url, json={"é": [1]}, auth=("me", "s3cret"))))[1])
        assert json.loads(posted["body"]) == {"é": [1]}
        assert posted["content-type"] == "application/json; charset=UTF-8"
        assert posted["authorization"] == "Basic bWU6czNjcmV0"
        form = await (await treq.post(url, data={"a": "b c"}, unbuffered=False)).json()
        assert (form["body"], form["content-type"]) == ("a=b+c", "application/x-www-form-urlencoded")
        empty = json.loads((await whole(await treq.put(url, data=b"")))[1])
        assert (empty["method"], empty["content-length"]) == ("PUT", "0")


@pytest_twisted.ensureDeferred
async def test_the_file_itself_is_asked_for() -> None:
    """Accept-Encoding is identity unless the request has its own; then the body is delivered with its codings."""
    async with serving() as web, reading() as client:
        web.route("/t", told)
        web.route("/coded", status(200, [("Content-Encoding", "br")], b"brotli"))
        web.route("/zipped", File(b"x" * 5000, gzip=True))
        treq = client.treq()
        for asked, sent in ((None, "identity"), ("br", "br"), ("gzip", "gzip"), ("identity", "identity")):
            headers = Headers({"Accept-Encoding": [asked]} if asked else {})
            answer = json.loads((await whole(await treq.get(f"{web.url}/t", headers=headers)))[1])
            assert answer["accept-encoding"] == sent
        wanted = Headers({"Accept-Encoding": ["br"]})
        coded = await treq.get(f"{web.url}/coded", headers=wanted)
        assert coded.headers.getRawHeaders("content-encoding") == ["br"]
        assert (await whole(coded))[1] == b"brotli"
        for headers in (Headers(), Headers({"Accept-Encoding": ["gzip"]})):
            zipped = await treq.get(f"{web.url}/zipped", headers=headers)
            assert zipped.length == UNKNOWN_LENGTH
            assert (await whole(zipped))[1] == b"x" * 5000


@pytest_twisted.ensureDeferred
async def test_a_body_that_is_paused() -> None:
    """Nothing is delivered while the protocol pauses, and no more is received than may be buffered."""
    async with serving() as web, reading() as client:
        web.route("/f", File(CONTENT, chunked=True))
        response = await client.treq().get(f"{web.url}/f")
        reader = Reader(pausing=True)
        response.deliverBody(reader)
        assert await soon(lambda: reader.pieces == 1)
        while len(reader.received) < len(CONTENT) // 2:
            before = reader.pieces
            reader.transport.resumeProducing()  # type: ignore[union-attr]
            assert await soon(lambda: reader.pieces > before)  # noqa: B023
            await deferLater(reactor, 0.01, lambda: None)
            assert reader.pieces == before + 1
            assert cast(Any, response.original).body.received - len(reader.received) <= 3 * ROOMS.size
        reader.pausing = False
        reader.transport.resumeProducing()  # type: ignore[union-attr]
        assert isinstance(await reader.ended, ResponseDone)
        assert sha256(reader.received).digest() == sha256(CONTENT).digest()


@pytest_twisted.ensureDeferred
async def test_a_body_that_breaks_off() -> None:
    """The error of a body that breaks off reaches the protocol, and ``whole`` raises it."""
    async with serving() as web, reading() as client:
        web.route("/cut", File(b"x" * 1000, cut=400))
        reader = Reader()
        (await client.treq().get(f"{web.url}/cut")).deliverBody(reader)
        error = await reader.ended
        assert isinstance(error, ConnectionLost)
        assert error.message.endswith("broke after 400 bytes")
        with pytest.raises(ConnectionLost, match="broke after 400 bytes"):
            await whole(await client.treq().get(f"{web.url}/cut"))
        assert await beginning(await client.treq().get(f"{web.url}/cut")) is not None


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("pausing", [False, True])
async def test_a_body_that_is_given_up(pausing: bool) -> None:
    """A protocol that stops the delivery gets ConnectionAborted, and the connection is closed."""
    async with serving() as web, reading() as client:
        web.route("/f", File(CONTENT))
        reader = Reader(pausing=pausing)
        (await client.treq().get(f"{web.url}/f")).deliverBody(reader)
        assert await soon(lambda: bool(reader.received))
        reader.transport.loseConnection()  # type: ignore[union-attr]
        assert isinstance(await reader.ended, ConnectionAborted)
        assert len(reader.received) < len(CONTENT)
        assert await soon(lambda: web.open_connections == 0)


@pytest_twisted.ensureDeferred
async def test_what_is_cancelled_lets_go() -> None:
    """Cancelling a request, or the reading of its answer, leaves no connection behind."""
    async with serving() as web, reading() as client:
        web.route("/silent", silent)
        web.route("/slow", File(CONTENT, pace=0.2))
        asking = client.treq().get(f"{web.url}/silent")
        assert await soon(lambda: bool(web.asked("/silent")))
        asking.cancel()
        with pytest.raises(CancelledError):
            await asking
        assert await soon(lambda: web.open_connections == 0)
        for read in (whole, beginning):
            response = await client.treq().get(f"{web.url}/slow")
            reading_it = Deferred.fromCoroutine(read(response))
            await deferLater(reactor, 0.05, lambda: None)
            reading_it.cancel()
            with pytest.raises(CancelledError):
                await reading_it
            assert await soon(lambda: web.open_connections == 0)


@pytest_twisted.ensureDeferred
async def test_no_more_than_the_bound_is_read() -> None:
    """Reading stops at the limit, and the connection is closed."""
    async with serving() as web, reading() as client:
        web.route("/f", File(CONTENT, pace=0.01, chunked=True))
        _, body = await beginning(await client.treq().get(f"{web.url}/f"), 1000)
        assert body == CONTENT[:1000]
        assert await soon(lambda: web.open_connections == 0)


@pytest_twisted.ensureDeferred
async def test_cookies_are_one_requests() -> None:
    """A request sends no cookie of an earlier answer, and the client refuses treq's cookies."""
    async with serving() as web, reading() as client:
        web.route("/t", told)
        treq = client.treq()
        for _ in range(2):
            response = await treq.get(f"{web.url}/t")
            assert json.loads((await whole(response))[1])["cookie"] is None
            assert list(response.cookies()) == []
        with pytest.raises(ValueError, match="a Cookie header"):
            treq.get(f"{web.url}/t", cookies={"a": "1"})


@pytest_twisted.ensureDeferred
async def test_a_cookie_of_ones_own_stays_with_its_origin() -> None:
    """A Cookie header is sent on a redirect within the origin, never to another."""
    async with serving() as web, serving() as other, reading() as client:
        web.route("/near", redirect(f"{other.url}/far"))
        other.route("/far", File(b"far"))
        headers = Headers({"Cookie": ["a=1"]})
        assert (await whole(await client.treq().get(f"{web.url}/near", headers=headers)))[1] == b"far"
        assert [request.headers.get("cookie") for request in web.requests] == ["a=1"]
        assert [request.headers.get("cookie") for request in other.requests] == [None]


@pytest_twisted.ensureDeferred
async def test_one_hop_by_the_rules(tmp_path: Any) -> None:
    """``PolicyAgent`` follows no redirect; it requests what the rules allow, with the login for the URL."""
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    async with serving() as web:
        login = schema.Credential(url=f"{web.url}/in/", token_file=secret)
        web.route("/in/old", redirect("/out"))
        web.route("/in/t", told)
        async with agent(allow=(f"{web.url}/in/",), credentials=(login,)) as made:
            assert (await made.request(b"GET", f"{web.url}/in/old".encode())).code == 302
            headers = Headers({"Authorization": ["Basic eDp5"]})
            response = await made.request(b"GET", f"{web.url}/in/t".encode(), headers)
            assert json.loads((await whole(response))[1])["authorization"] == "Bearer s3cret"
            with pytest.raises(
                SourceNotAllowedHere, match=r"/out is not an allowed source: \[sources\] does not allow"
            ):
                await made.request(b"GET", f"{web.url}/out".encode())
            assert not web.asked("/out")


@pytest_twisted.ensureDeferred
async def test_an_ipv6_address() -> None:
    """Literal IPv6 addresses in URLs, which treq refuses, work, also with params."""
    async with serving(interface="::1") as web, reading() as client:
        web.route("/t", told)
        assert json.loads((await whole(await client.treq().get(f"{web.url}/t?a")))[1])["target"] == "/t?a"
        answer = await client.treq().get(f"{web.url}/t?a", params={"b": "c"})
        assert json.loads((await whole(answer))[1])["target"] == "/t?a&b=c"
        web.route("/f", File(b"abc"))
        assert (await client.origin(f"{web.url}/f").inspect()).size == 3


@pytest_twisted.ensureDeferred
async def test_what_is_no_url() -> None:
    """A malformed URL raises InvalidRequest or UnsupportedScheme, not an error of treq's."""
    async with reading() as client:
        for url, error in (("file:///etc/passwd", UnsupportedScheme), ("http://[::1", InvalidRequest)):
            with pytest.raises(error):
                await client.treq().get(url)


@pytest_twisted.ensureDeferred
async def test_treqs_timeout() -> None:
    """``timeout=`` uses the client's clock."""
    clock = Clock()
    async with serving() as web, agent() as made:
        web.route("/silent", silent)
        asking = TreqClient(made, clock).get(f"{web.url}/silent", timeout=60)
        assert await soon(lambda: bool(web.asked("/silent")))
        clock.advance(60)
        with pytest.raises(CancelledError):
            await asking
        assert await soon(lambda: web.open_connections == 0)


@pytest_twisted.ensureDeferred
async def test_names_of_fields_that_are_none() -> None:
    """Fields whose names Twisted refuses are left out; the others keep their bytes."""
    head = b"HTTP/1.1 200 OK\r\nbad name: x\r\nX-Good: caf\xe9\r\nContent-Length: 1\r\n\r\nx"
    async with serving() as web, reading() as client:
        web.route("/t", lambda exchange: exchange.write(head))
        response = await client.treq().get(f"{web.url}/t")
        assert response.headers.getRawHeaders(b"x-good") == [b"caf\xe9"]
        assert (await whole(response))[1] == b"x"
