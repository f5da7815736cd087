"""TLS to web servers: always verified, with errors that say why it fails."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

from datamover.config import schema
from datamover.errors import ConfigError, ConnectionLost, Scope, TLSFailed
from datamover.protocols.tls.files import TlsFiles
from tests.protocols.reading import content_of, reading, rest_of, serving
from tests.servers.certificates import Authority, ServerTLS
from tests.servers.nginx import Nginx
from tests.servers.web import Exchange, File

CONTENT = b"private" * 1000


class Plain(Protocol):
    """A server that answers everything with plain text."""

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_trusted_server(authority: Authority, host: str) -> None:
    """A certificate of the authority in ca_file is accepted for the requested name or address."""
    async with serving(authority.server()) as web, reading(ca_file=authority.file) as client:
        web.route("/f", File(CONTENT))
        for _ in range(2):
            assert await content_of(client, f"{web.url_of(host)}/f") == CONTENT
        assert {request.connection for request in web.requests} == {1}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda authority: authority.server("elsewhere.example.org"), "for another host name"),
        (lambda authority: authority.server("localhost"), "for another host name"),
        (lambda authority: authority.server("127.0.0.2"), "for another host name"),
        (lambda authority: authority.server(valid_for=timedelta(hours=-1)), "has expired"),
        (lambda authority: authority.server(self_signed=True), "self-signed; name the authority's certificate"),
        (lambda authority: Authority(authority.directory, "stranger").server(), "authority that is not trusted here"),
    ],
    ids=["host", "name for address", "address", "expired", "self-signed", "authority"],
)
async def test_certificates_that_do_not_hold(
    authority: Authority, make: Callable[[Authority], ServerTLS], words: str
) -> None:
    """The error says what is wrong with a certificate, and no request is sent."""
    async with serving(make(authority)) as web, reading(ca_file=authority.file) as client:
        origin = client.origin(f"{web.url}/f?key=s3cr3t")
        for asking in (origin.inspect, origin.open):
            with pytest.raises(
                TLSFailed, match=rf"no secure connection to 127\.0\.0\.1: its certificate .*{words}"
            ) as raised:
                await asking()
            assert raised.value.scope is Scope.SOURCE
        assert web.requests == []


@pytest_twisted.ensureDeferred
async def test_without_ca_file_an_own_authority_is_not_trusted(authority: Authority) -> None:
    """Without ca_file only the system's authorities are trusted."""
    async with serving(authority.server()) as web, reading() as client:
        with pytest.raises(TLSFailed, match=r"not trusted here; name the authority's certificate in \[http\] ca_file"):
            await client.origin(f"{web.url}/f").open()


@pytest_twisted.ensureDeferred
async def test_a_server_without_tls() -> None:
    """An https URL of a server without TLS raises an error that is not retryable."""
    listener: Any = reactor.listenTCP(0, Factory.forProtocol(Plain), interface="127.0.0.1")  # type: ignore[arg-type]
    async with reading() as client:
        with pytest.raises(TLSFailed, match=r"no secure connection to 127\.0\.0\.1: wrong version number"):
            await client.origin(f"https://127.0.0.1:{listener.getHost().port}/f").open()
    await listener.stopListening()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("cut", [None, 3000])
async def test_an_end_without_a_goodbye(authority: Authority, cut: int | None) -> None:
    """Over TLS a body without a length is complete only if close_notify ends it."""

    def handler(exchange: Exchange) -> None:
        exchange.write(exchange.head(200, [("Connection", "close")]) + CONTENT[:cut])
        if cut is None:
            exchange.close()
        else:
            exchange.cut()

    async with serving(authority.server()) as web, reading(ca_file=authority.file) as client:
        web.route("/f", handler)
        source = await client.origin(f"{web.url}/f").open()
        if cut is None:
            assert await rest_of(source) == CONTENT
        else:
            with pytest.raises(ConnectionLost):
                await rest_of(source)


@pytest_twisted.ensureDeferred
async def test_nginx_over_tls(tmp_path: Path) -> None:
    """A file comes from nginx over TLS, and a read is resumed."""
    (tmp_path / "f").write_bytes(CONTENT)
    with Nginx(tmp_path, tls=True) as nginx:
        assert nginx.authority is not None
        async with reading(ca_file=nginx.authority.file) as client:
            origin = client.origin(f"{nginx.url}/f")
            source = await origin.open()
            assert await rest_of(source) == CONTENT
            source = await origin.open(5000, source.inspection.identity)
            assert source.offset == 5000
            assert await rest_of(source) == CONTENT[5000:]


def test_a_ca_file_that_holds_no_certificate(tmp_path: Path) -> None:
    """An unusable ca_file is a ConfigError at the start."""
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for path in (empty, tmp_path / "missing.pem"):
        with pytest.raises(ConfigError, match=r"http\.ca_file = '.*pem': expected a readable file of PEM certificates"):
            TlsFiles("http", schema.Http(ca_file=path).ca_file).context()
