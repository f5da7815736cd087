"""TLS to FTP servers: from the first byte, certificates, and what is not to be believed of an end."""

import shutil
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from datamover import errors
from datamover.errors import Scope
from datamover.protocols.ftp.client.data import Receiving, connect
from datamover.protocols.tls.files import TlsFiles
from datamover.protocols.tls.verified import VerifiedTLS
from tests.protocols.conformance import MIB, content, get, put
from tests.protocols.ftp import opened, pool_at
from tests.protocols.test_ftp_misbehaviour import says
from tests.servers.certificates import Authority
from tests.servers.ftp import FtpServer, Vsftpd
from tests.servers.wayward_ftp import PASSWORD, Session, WaywardFtp

DATA = content(MIB + 1)


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="datamover-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def started(directory: Path, authority: Authority | None, config: str = "") -> FtpServer:
    server = Vsftpd(directory, authority, config=config)
    server.start()
    return server


@pytest_twisted.ensureDeferred
async def test_from_the_first_byte(directory: Path) -> None:
    """``ftps://`` is TLS before the greeting, on the data connections too."""
    server = started(directory, Authority(directory), "implicit_ssl=YES\n")
    pool = pool_at(server.url.replace("ftp://", "ftps://"), server.options)
    try:
        await put(pool.at(Scope.DESTINATION), "file", DATA)
        assert await get(pool.at(Scope.SOURCE), "file") == (0, DATA)
    finally:
        await pool.close()
        server.stop()


@pytest.mark.parametrize("scheme", ["ftp", "ftps"])
@pytest_twisted.ensureDeferred
async def test_unknown_authority(directory: Path, scheme: str) -> None:
    """A certificate of an authority that is not trusted ends the connection before the login."""
    config = "implicit_ssl=YES\n" if scheme == "ftps" else ""
    server = started(directory, Authority(directory), config)
    other = Authority(directory, "other")
    pool = pool_at(server.url.replace("ftp://", f"{scheme}://"), {**server.options, "ca_file": str(other.file)})
    try:
        with pytest.raises(errors.TLSFailed) as caught:
            await pool.connect()
        assert "authority" in caught.value.full
        assert caught.value.scope is Scope.DESTINATION
    finally:
        await pool.close()
        server.stop()


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("other.example", {}, "is for another host name"),
    ("127.0.0.1", {"valid_for": timedelta(hours=-1)}, "has expired"),
    ("127.0.0.1", {"self_signed": True}, "is self-signed"),
]


@pytest.mark.parametrize(("host", "issued", "words"), WRONG, ids=[words for *_, words in WRONG])
@pytest.mark.parametrize("of", ["control", "data"])
@pytest_twisted.ensureDeferred
async def test_wrong_certificate(tmp_path: Path, host: str, issued: dict[str, Any], words: str, of: str) -> None:
    """A certificate that does not fit ends the login, or the transfer of a data connection that shows it."""
    authority = Authority(tmp_path)
    wrong = authority.server(host, **issued)

    def secure(session: Session, _: str) -> None:
        session.say("234 begin")
        session.transport.startTLS(wrong if of == "control" else authority.server())

    def listen(session: Session, _: str) -> None:
        session.do_EPSV("")
        assert session.data is not None
        own = session.data
        own.made.addCallback(lambda _: own.transport.startTLS(wrong))

    server = WaywardFtp({"AUTH": secure, "PBSZ": says("200 ok"), "PROT": says("200 ok"), "EPSV": listen})
    server.start()
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    pool = pool_at(server.url, {"password_file": str(password), "ca_file": str(authority.file)})
    try:
        server.files["/there"] = DATA
        for way in (
            partial(put, pool.at(Scope.DESTINATION), "file", DATA),
            partial(get, pool.at(Scope.SOURCE), "there"),
        ):
            with pytest.raises(errors.TLSFailed) as caught:
                await way()
            assert words in caught.value.full
        assert server.commands("PASS") == ([] if of == "control" else [f"PASS {PASSWORD}"])
    finally:
        await pool.close()
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_certificate_of_ones_own(directory: Path) -> None:
    """A server that asks for a certificate is shown one, on control and data connections; without one, it says so."""
    authority = Authority(directory)
    config = f"require_cert=YES\nca_certs_file={authority.file}\n"
    server = started(directory, authority, config)
    certificate, key = authority.issue(name="portal")
    try:
        async with opened(server, certificate_file=str(certificate), key_file=str(key)) as pool:
            await put(pool.at(Scope.DESTINATION), "file", DATA)
            assert await get(pool.at(Scope.SOURCE), "file") == (0, DATA)
        async with opened(server) as pool:
            with pytest.raises(errors.DataMoverError) as caught:
                await pool.connect()
            assert caught.value.scope is Scope.DESTINATION
    finally:
        server.stop()


@pytest_twisted.ensureDeferred
async def test_tls_that_nobody_has(directory: Path) -> None:
    """A server without TLS is refused by default, before the login."""
    server = started(directory, None)
    pool = pool_at(server.url, {"password_file": str(server.password_file)})
    try:
        with pytest.raises(errors.TLSFailed) as caught:
            await pool.connect()
        assert "has no TLS" in caught.value.full
    finally:
        await pool.close()
        server.stop()


@pytest_twisted.ensureDeferred
async def test_tls_that_is_required(directory: Path) -> None:
    """A server that lets nobody log in without TLS says so where there is to be none."""
    server = started(directory, Authority(directory))
    pool = pool_at(server.url, {"password_file": str(server.password_file), "tls": "none"})
    try:
        with pytest.raises(errors.TLSFailed) as caught:
            await pool.connect()
        assert 'take tls = "none" out' in caught.value.full
    finally:
        await pool.close()
        server.stop()


@implementer(IHandshakeListener)
class Cut(Protocol):
    """Sends something, and closes in order or, ``cut``, without the end that TLS has."""

    transport: Any

    def __init__(self, cut: bool) -> None:
        self._cut = cut

    def handshakeCompleted(self) -> None:  # noqa: N802
        self.transport.write(DATA)
        (self.transport.transport if self._cut else self.transport).loseConnection()


@pytest.mark.parametrize("cut", [True, False])
@pytest_twisted.ensureDeferred
async def test_end_without_that_of_tls(tmp_path: Path, cut: bool) -> None:
    """A data connection that ends without close_notify is told from one that ends in order."""
    authority = Authority(tmp_path)
    factory: Any = Factory.forProtocol(lambda: Cut(cut))
    factory.noisy = False
    port: Any = reactor.listenSSL(0, factory, authority.server(), interface="127.0.0.1")  # type: ignore[attr-defined]
    try:
        data = Receiving(reactor, 10.0, secure=True)
        creator = VerifiedTLS(TlsFiles("destinations.x", authority.file), reactor.seconds).creator("127.0.0.1")
        await connect(reactor, "127.0.0.1", port.getHost().port, data, creator, 10.0)
        found = []
        while piece := await data.read():
            found.append(piece)
        assert b"".join(found) == DATA
        assert (data.trouble is not None) is cut
        data.abort()
        await data.gone
    finally:
        await port.stopListening()
