"""Reading through an HTTP proxy."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from datamover.config import schema
from datamover.errors import AuthenticationFailed, ConfigError, ConnectFailed, SourceNotAllowedHere, TLSFailed
from datamover.protocols.http import HttpClient
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import SourcePolicy
from tests.protocols.reading import content_of, reading, serving, soon
from tests.servers.certificates import Authority
from tests.servers.ports import free_port
from tests.servers.web import File, status

CONTENT = b"by another way" * 1000


class Far(Protocol):
    """The proxy's connection to the server."""

    def __init__(self, near: "Near") -> None:
        self.near = near

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.near.transport.write(data)  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        self.near.transport.loseConnection()  # type: ignore[union-attr]


class Near(Protocol):
    """A client's connection to the proxy: CONNECT alone, to any port of this machine."""

    def __init__(self, proxy: "Tunnels") -> None:
        self.proxy = proxy
        self.received = b""
        self.far: Far | None = None

    def connectionMade(self) -> None:  # noqa: N802
        self.proxy.open.add(self)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        if self.far is not None:
            self.far.transport.write(data)  # type: ignore[union-attr]
            return
        self.received += data
        if b"\r\n\r\n" in self.received:
            method, authority, _ = self.received.split(b"\r\n")[0].decode().split(" ")
            self.proxy.asked.append(f"{method} {authority}")
            if self.proxy.refusal is not None:
                self.transport.write(self.proxy.refusal)  # type: ignore[union-attr]
                self.transport.loseConnection()  # type: ignore[union-attr]
                return
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", int(authority.rpartition(":")[2]))
            connectProtocol(endpoint, Far(self)).addCallbacks(self.join, lambda _: self.transport.loseConnection())  # type: ignore[no-untyped-call, union-attr]

    def join(self, far: Far) -> None:
        self.far = far
        self.transport.write(self.proxy.welcome)  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        self.proxy.open.discard(self)
        if self.far is not None:
            self.far.transport.loseConnection()  # type: ignore[union-attr]


class Tunnels:
    """A proxy that knows CONNECT."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.open: set[Near] = set()
        self.refusal: bytes | None = None
        self.welcome = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 tests\r\n\r\n"
        self.url = ""


@asynccontextmanager
async def tunnels() -> AsyncIterator[Tunnels]:
    proxy = Tunnels()
    factory = Factory.forProtocol(lambda: Near(proxy))
    listener: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[arg-type]
    proxy.url = f"http://127.0.0.1:{listener.getHost().port}"
    try:
        yield proxy
    finally:
        await listener.stopListening()
        assert await soon(lambda: not proxy.open)


@pytest_twisted.ensureDeferred
async def test_http_goes_through_the_proxy_by_its_whole_url() -> None:
    """An http request goes to the proxy with the whole URL, and the proxy resolves the host."""
    async with serving() as web, reading(proxy=web.url) as client:
        web.route("/f", File(CONTENT))
        assert await content_of(client, "http://data.example.org:8080/f?a=b") == CONTENT
        (request,) = web.requests
        assert request.target == "http://data.example.org:8080/f?a=b"
        assert request.headers["host"] == "data.example.org:8080"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("welcome", [b"HTTP/1.1 200 OK\r\nVia: 1.1 tests\r\n\r\n", b"HTTP/1.0  200\nX Y: z\n\n"])
async def test_https_goes_through_a_tunnel(tmp_path: Path, host: str, welcome: bytes) -> None:
    """TLS with the server itself, verified, goes through a tunnel, which is kept for further requests."""
    authority = Authority(tmp_path)
    async with serving(authority.server()) as web, tunnels() as proxy:
        proxy.welcome = welcome
        web.route("/f", File(CONTENT))
        async with reading(proxy=proxy.url, ca_file=authority.file) as client:
            for _ in range(2):
                assert await content_of(client, f"{web.url_of(host)}/f") == CONTENT
        assert proxy.asked == [f"CONNECT {host}:{web.port}"]


@pytest_twisted.ensureDeferred
async def test_a_tunnel_is_verified_too(tmp_path: Path) -> None:
    """A certificate that cannot be verified is refused through a proxy, too."""
    authority = Authority(tmp_path)
    async with serving(authority.server("elsewhere.example.org")) as web, tunnels() as proxy:
        async with reading(proxy=proxy.url, ca_file=authority.file) as client:
            with pytest.raises(TLSFailed, match="another host name"):
                await client.origin(f"{web.url}/f").open()
        assert web.requests == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("refusal", "expected", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", AuthenticationFailed, "asks for a login"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", ConnectFailed, "did not connect to data.example.org:443: it answered 403"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", ConnectFailed, "it answered 502"),
        (b"HTTP/1.1 502\nX-Error: a\n b\n\n", ConnectFailed, "it answered 502"),
        (b"nonsense\r\n\r\n", ConnectFailed, "it ended the connection"),
        (b"", ConnectFailed, "it ended the connection"),
    ],
)
async def test_a_proxy_that_refuses(refusal: bytes, expected: type[Exception], words: str) -> None:
    """The error has the status by which the proxy refuses CONNECT."""
    async with tunnels() as proxy, reading(proxy=proxy.url) as client:
        proxy.refusal = refusal
        with pytest.raises(expected, match=words):
            await client.origin("https://data.example.org/f").open()


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_asks_for_a_login_or_is_not_there() -> None:
    """The errors for a 407 and for a proxy that cannot be reached name the proxy."""
    async with serving() as web, reading(proxy=web.url) as client:
        web.route("/f", status(407))
        with pytest.raises(AuthenticationFailed, match="proxy asks for a login"):
            await client.origin("http://data.example.org/f").open()
    async with reading(proxy=f"http://127.0.0.1:{free_port()}") as client:
        for scheme in ("http", "https"):
            with pytest.raises(ConnectFailed, match=r"cannot connect to the HTTP proxy 127\.0\.0\.1"):
                await client.origin(f"{scheme}://data.example.org/f").open()


@pytest_twisted.ensureDeferred
async def test_the_rules_hold_through_a_proxy() -> None:
    """A private address in a URL is refused before the proxy is asked."""
    async with serving() as web, reading(addresses=(), proxy=web.url) as client:
        for url in ("http://10.0.0.1/f", "http://2130706433/f", "https://169.254.169.254/f"):
            with pytest.raises(SourceNotAllowedHere):
                await client.origin(url).open()
        assert web.requests == []


@pytest.mark.parametrize(
    "proxy",
    [
        "proxy.example.org:3128",
        "https://proxy.example.org",
        "http://me:s3cr3t@proxy.example.org",
        "http://p.example/x",
        "",
    ],
)
def test_proxies_that_cannot_be_used(proxy: str) -> None:
    """An unusable ``http.proxy`` is a ConfigError at the start, which does not quote a login in it."""
    with pytest.raises(ConfigError, match=r"http\.proxy: expected the address of an HTTP proxy") as raised:
        HttpClient(reactor, schema.Http(proxy=proxy), schema.Transfers(), SourcePolicy(), SourceCredentials())
    assert "s3cr3t" not in raised.value.message
