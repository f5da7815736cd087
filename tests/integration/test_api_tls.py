"""The interface over TLS: logins by certificate and password, and renewed certificates."""

import gc
import http.client
import shutil
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any
from xmlrpc.client import ProtocolError, ServerProxy

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL
from twisted.internet import reactor, task
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import provider

from datamover.admin import main as admin
from datamover.api.http.pace import ConnectionTimeouts
from datamover.api.http.tls import LOOK, ServerTLS, over_tls
from datamover.api.http.turns import Turns
from datamover.bounds.door import MOST_BYTES_AHEAD, TLS_PIECE
from datamover.config.schema import Client, Tls
from datamover.errors import ConfigError
from datamover.security.passwords import hash_password
from tests.fakes import PlainLogins
from tests.servers.certificates import CERTIFICATE_OF_UNKNOWN_CURVE, UNKNOWN_CURVE, Authority
from tests.servers.door import WAIT, Door, config_of, told
from tests.servers.ports import free_port
from tests.servers.postgres import shared
from tests.servers.service import Service

Pair = tuple[Path, Path]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority, tmp_path: Path) -> Pair:
    """The interface's certificate and key, which a test may renew."""
    files = tmp_path / "served.pem", tmp_path / "served.key"
    renew(files, authority.issue())
    return files


def renew(files: Pair, others: Pair) -> None:
    """Put other files in the place of files, as certbot does: at once."""
    for file, other in zip(files, others, strict=True):
        shutil.copy2(other, file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)


@pytest_twisted.async_yield_fixture
async def door(authority: Authority, pair: Pair, tmp_path: Path) -> AsyncIterator[Door]:
    """An interface over TLS with a client who has a certificate, one who has a password, and one who has both."""
    clients = {
        "portal": Client(certificate="dns:portal.example.org"),
        "other": Client(password_hash="x"),
        "both": Client(password_hash="x", certificate="subject:CN=both"),
    }
    tls = Tls(certificate_file=pair[0], key_file=pair[1], client_ca_file=authority.file)
    door = Door(config_of(tmp_path, clients=clients, tls=tls), logins=PlainLogins({"other": "o", "both": "b"}))
    yield door
    await door.close()


def trusting(authority: Authority, certificate: Pair | None = None) -> ssl.SSLContext:
    """Return what a client has that trusts an authority, and may have a certificate."""
    context = ssl.create_default_context(cafile=str(authority.file))
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context


def ask(door: Door, context: ssl.SSLContext, login: str = "") -> Any:
    """Return the client that the interface recognises; runs in a thread."""

    def run() -> Any:
        url = f"https://{login}{'@' if login else ''}127.0.0.1:{door.port}/data_mover"
        with ServerProxy(url, context=context) as client:
            made: Any = client.jobs.submit({"source": "https://example.org/a", "destination": "archive", "path": "a"})
            told: Any = client.jobs.status(made["id"])
            return told["owner"]

    return deferToThread(run)


@contextmanager
def lines() -> Iterator[list[str]]:
    """Yield what is logged meanwhile."""
    told: list[str] = []

    @provider(ILogObserver)
    def observer(event: LogEvent) -> None:
        told.append(str(event.get("log_format")).format_map(event))

    globalLogPublisher.addObserver(observer)
    try:
        yield told
    finally:
        globalLogPublisher.removeObserver(observer)


@pytest.mark.parametrize(
    ("name", "host", "login", "owner"),
    [
        ("x", "portal.example.org", "", "portal"),
        ("both", "elsewhere", "", "both"),
        ("", "", "other:o", "other"),
        ("", "", "both:b", "both"),
        ("x", "portal.example.org", "other:o", "other"),
        ("", "", "", None),
        ("x", "portal.example.org", "portal:", None),
        ("x", "portal.example.org", "other:wrong", None),
        ("x", "portal.example.org.evil.example.org", "", None),
        ("portal.example.org", "evil.example.org", "", None),
        ("both", "portal.example.org", "", None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_who_is_let_in(door: Door, authority: Authority, name: str, host: str, login: str, owner: str) -> None:
    """A certificate is a login, a password on the same listener is another, and goes before it; neither is 401."""
    certificate = authority.issue(host, name=name) if name else None
    asking = ask(door, trusting(authority, certificate), login)
    if owner is not None:
        assert await asking == owner
    else:
        with pytest.raises(ProtocolError) as caught:
            await asking
        assert caught.value.errcode == 401


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda authority: authority.issue("portal.example.org", self_signed=True), "it is self-signed"),
        (lambda authority: authority.issue("portal.example.org", valid_for=timedelta(hours=-1)), "it has expired"),
        (
            lambda authority: Authority(authority.directory, "stranger").issue("portal.example.org"),
            "its authority is not in tls.client_ca_file",
        ),
        (
            # Of the same name as the authority that is trusted, with another key.
            lambda authority: Authority(fresh(authority.directory), "authority").issue("portal.example.org"),
            "its signature is wrong",
        ),
        (
            lambda authority: authority.issue("portal.example.org", usage=ExtendedKeyUsageOID.SERVER_AUTH),
            "it is not meant for clients",
        ),
    ],
    ids=["self-signed", "expired", "stranger", "impostor", "usage"],
)
@pytest_twisted.ensureDeferred
async def test_certificates_that_do_not_hold(
    door: Door, authority: Authority, make: Callable[[Authority], Pair], words: str
) -> None:
    """A client whose certificate does not hold is not let in, not even with a password, and the log says why."""
    with lines() as told, pytest.raises((OSError, http.client.HTTPException)):
        await ask(door, trusting(authority, make(authority)), "other:o")
    assert f"a client's certificate from 127.0.0.1 is not valid: {words}" in told
    assert not door.store.jobs_asked
    assert await ask(door, trusting(authority), "other:o") == "other"


def fresh(directory: Path) -> Path:
    made = directory / "fresh"
    made.mkdir(exist_ok=True)
    return made


@pytest_twisted.ensureDeferred
async def test_a_fingerprint_names_one_certificate(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    """Who names a fingerprint lets in that certificate, and no other of the same name."""
    first, second = authority.issue("p.example.org"), authority.issue("p.example.org")
    shown = x509.load_pem_x509_certificate(first[0].read_bytes()).fingerprint(SHA256()).hex(":").upper()
    clients = {"portal": Client(certificate=f"sha256:{shown}")}
    tls = Tls(certificate_file=pair[0], key_file=pair[1], client_ca_file=authority.file)
    door = Door(config_of(tmp_path, clients=clients, tls=tls))
    try:
        assert await ask(door, trusting(authority, first)) == "portal"
        with pytest.raises(ProtocolError, match="401"):
            await ask(door, trusting(authority, second))
    finally:
        await door.close()


def handshake(door: Door, context: ssl.SSLContext) -> tuple[int, str | None]:
    """Return the serial number of the interface's certificate, and the version of TLS; runs in a thread."""
    plain = socket.create_connection(("127.0.0.1", door.port), WAIT)
    with plain, context.wrap_socket(plain, server_hostname="localhost") as connection:
        content = connection.getpeercert(binary_form=True)
        assert content is not None
        return x509.load_der_x509_certificate(content).serial_number, connection.version()


def weaker(**attributes: Any) -> ssl.SSLContext:
    """Return what a client has that takes anything but what is said."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers(attributes.pop("ciphers", "ALL:@SECLEVEL=0"))
    for name, value in attributes.items():
        setattr(context, name, value)
    return context


@pytest.mark.parametrize(
    ("attributes", "version"),
    [
        ({}, "TLSv1.3"),
        ({"maximum_version": ssl.TLSVersion.TLSv1_2}, "TLSv1.2"),
        ({"maximum_version": ssl.TLSVersion.TLSv1_1}, None),
        ({"maximum_version": ssl.TLSVersion.TLSv1_2, "ciphers": "AES128-GCM-SHA256"}, None),
        ({"maximum_version": ssl.TLSVersion.TLSv1_2, "ciphers": "ECDHE+AES:!AESGCM:!AESCCM"}, None),
        ({"maximum_version": ssl.TLSVersion.TLSv1_2, "ciphers": "aNULL:@SECLEVEL=0"}, None),
    ],
    ids=["now", "1.2", "1.1", "no forward secrecy", "cbc", "anonymous"],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
@pytest_twisted.ensureDeferred
async def test_versions_and_ciphers(door: Door, attributes: dict[str, Any], version: str | None) -> None:
    """TLS 1.2 and newer, with forward secrecy and authenticated encryption, and nothing below."""
    shaking = deferToThread(handshake, door, weaker(**attributes))
    if version is not None:
        assert (await shaking)[1] == version
    else:
        with pytest.raises(ssl.SSLError):
            await shaking


@pytest_twisted.ensureDeferred
async def test_plain_text_is_told_to_speak_tls(door: Door) -> None:
    """A request without TLS is not looked at: whoever sent it is told what to do, and the next client is served."""
    status, body = told(await door.raw(door.post(b"<methodCall/>", "Content-Type: text/xml", f"X: {'x' * 100_000}")))
    assert (status, body) == (400, b"this listener speaks TLS: use https://\n")
    assert (await deferToThread(handshake, door, weaker()))[1] == "TLSv1.3"


@pytest_twisted.ensureDeferred
async def test_noise_finds_no_answer(door: Door) -> None:
    """What is neither TLS nor HTTP is not answered in plain text, and the next client is served."""
    try:
        answer = await door.raw(b"\0" * 1000)
    except OSError:
        answer = b""
    assert b"HTTP/" not in answer
    assert (await deferToThread(handshake, door, weaker()))[1] == "TLSv1.3"


@pytest_twisted.ensureDeferred
async def test_what_has_ended_is_freed_at_once(door: Door) -> None:
    """A connection leaves nothing to the garbage collector, which would free those of a flood in one go."""
    context = weaker()

    def come_and_go(*, whole: bool) -> None:
        with door.socket() as plain:
            if whole:
                with context.wrap_socket(plain):
                    return
            begun = ssl.MemoryBIO()
            with suppress(ssl.SSLWantReadError):
                context.wrap_bio(ssl.MemoryBIO(), begun).do_handshake()
            plain.sendall(begun.read())
            plain.recv(1)

    def left() -> list[Any]:
        return [each for each in gc.get_objects() if isinstance(each, TLSMemoryBIOProtocol)]

    gc.collect()
    gc.disable()
    try:
        for whole in (True, False):
            await deferToThread(come_and_go, whole=whole)
            while door.site._connections.all:
                await task.deferLater(reactor, 0.01)
            assert left() == []
    finally:
        gc.enable()


def client_hello() -> bytes:
    begun = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        weaker().wrap_bio(ssl.MemoryBIO(), begun).do_handshake()
    return begun.read()


@pytest.mark.parametrize("begun", [0, 1, 100, None], ids=["nothing", "a byte", "some of it", "all of it"])
@pytest_twisted.ensureDeferred
async def test_a_handshake_that_is_not_ended(door: Door, begun: int | None) -> None:
    """A byte of a handshake now and then keeps no connection, nor does one that is not gone on with."""
    door.site.pace = ConnectionTimeouts(
        idle=0.5, head=0.4, silence=0.4, window=0.8, stranger=0.8, slowest=10_000, linger=0.3
    )
    hello = client_hello()

    def begin() -> None:
        with door.socket() as plain, suppress(OSError):
            plain.settimeout(0.05)
            plain.sendall(hello[:begun])
            until = time.monotonic() + WAIT
            for each in chain(hello[begun:] if begun is not None else b"", repeat(None)):
                assert time.monotonic() < until, "the connection is kept"
                if each is not None:
                    plain.sendall(bytes((each,)))
                with suppress(TimeoutError):
                    while plain.recv(65536):
                        pass
                    return

    await deferToThread(begin)
    assert door.site._connections.all == 0
    assert (await deferToThread(handshake, door, weaker()))[1] == "TLSv1.3"


@pytest_twisted.ensureDeferred
async def test_no_renegotiation(door: Door) -> None:
    """A client cannot have the costly part of a connection's beginning done again and again, as TLS 1.2 allows."""

    def renegotiate() -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        with door.socket() as plain:
            plain.settimeout(None)
            client = SSL.Connection(context, plain)
            client.set_connect_state()
            client.do_handshake()
            assert client.renegotiate()
            client.do_handshake()

    with pytest.raises(SSL.Error, match="no renegotiation"):
        await deferToThread(renegotiate)


class Heard(Protocol):
    """What is served over TLS: remembers what was received; a record takes ten microseconds."""

    who = "somebody"

    def __init__(self, clock: Clock) -> None:
        self.data = b""
        self._clock = clock

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.data += data
        self._clock.rightNow += 0.00001


class Other:
    """Another's work, which never ends: remembers what was received before each turn of it."""

    who = "other"

    def __init__(self, turns: Turns, heard: Heard, size: int) -> None:
        self.seen = [0]
        self._turns, self._heard, self._size = turns, heard, size
        turns.ask(self)

    def advance(self) -> None:
        self.seen.append(len(self._heard.data))
        if self.seen[-1] < self._size:
            self._turns.ask(self)


def test_a_byte_in_a_record(pair: Pair) -> None:
    """Records are decrypted in turns, few in each, however small; meanwhile none comes in, and none is lost."""
    clock = Clock()
    turns, heard = Turns(clock), Heard(clock)
    site: Any = Factory()
    site.turns, site.buildProtocol = turns, lambda _: heard
    serving = over_tls(ServerTLS(Tls(certificate_file=pair[0], key_file=pair[1]), clock.seconds), site, clock)
    served: Any = serving.buildProtocol(None)
    transport: Any = StringTransport()  # type: ignore[no-untyped-call]
    served.makeConnection(transport)
    come, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = weaker().wrap_bio(come, sent)
    while client.version() is None or sent.pending:
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        served.dataReceived(sent.read())
        clock.advance(0)
        come.write(transport.value())
        transport.clear()

    size = 2 * MOST_BYTES_AHEAD // 22
    for _ in range(size):
        client.write(b"x")
    served.dataReceived(sent.read())
    assert transport.producerState == "paused"
    other = Other(turns, heard, size)
    clock.advance(0)
    assert heard.data == b"x" * size
    assert max(after - before for before, after in pairwise(other.seen)) <= 2 * TLS_PIECE // 22
    assert transport.producerState == "producing"
    served.connectionLost(connectionDone)


@pytest_twisted.ensureDeferred
async def test_renewed(door: Door, authority: Authority, pair: Pair) -> None:
    """New files are served to new connections and cut no old ones; broken ones are told, and not served."""
    clock: list[float] = [0.0]
    assert door.tls is not None
    door.tls._seconds = lambda: clock[0]
    door.tls._looked = 0.0
    first, _ = await deferToThread(handshake, door, trusting(authority))
    kept = http.client.HTTPSConnection("127.0.0.1", door.port, timeout=WAIT, context=trusting(authority))
    headers = {"Content-Type": "text/xml", "Authorization": "Basic " + b64encode(b"other:o").decode()}
    body = b"<methodCall><methodName>system.listMethods</methodName></methodCall>"

    def over_the_kept_one() -> bytes:
        kept.request("POST", "/RPC2", body, headers)
        return kept.getresponse().read()

    try:
        assert b"jobs.submit" in await deferToThread(over_the_kept_one)
        connected = kept.sock

        renew(pair, authority.issue())
        clock[0] += LOOK
        second, _ = await deferToThread(handshake, door, trusting(authority))
        assert second != first
        assert b"jobs.submit" in await deferToThread(over_the_kept_one)
        assert kept.sock is connected

        with lines() as told:
            pair[0].write_text("not a certificate")
            for _ in range(2):
                clock[0] += LOOK
                assert (await deferToThread(handshake, door, trusting(authority)))[0] == second
        reason = f"tls.certificate_file: {pair[0]} holds no certificate in PEM"
        assert [line.partition("datamover.toml: ")[2] for line in told if "renewed" in line] == [reason]

        renew(pair, authority.issue())
        clock[0] += LOOK
        assert (await deferToThread(handshake, door, trusting(authority)))[0] not in (first, second)
    finally:
        kept.close()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda certificate, key: key.chmod(0o644),
            "has permissions 0644, so others may read or change it: run chmod",
        ),
        (lambda certificate, key: key.unlink(), "cannot be read: No such file or directory"),
        (lambda certificate, key: certificate.write_text(""), "holds no certificate in PEM"),
        (lambda certificate, key: key.write_text("-----BEGIN PRIVATE KEY-----"), "holds no private key in PEM"),
        (lambda certificate, key: key.write_bytes(certificate.read_bytes()), "holds no private key in PEM"),
        (
            lambda certificate, key: shutil.copy2(Authority(key.parent, "x").issue()[1], key),
            "is not the key of the certificate in certificate_file",
        ),
        (lambda certificate, key: key.write_bytes(UNKNOWN_CURVE), "of a kind that is supported"),
        (lambda certificate, key: certificate.write_bytes(CERTIFICATE_OF_UNKNOWN_CURVE), "is refused by OpenSSL"),
    ],
    ids=["permissions", "missing", "empty", "cut", "swapped", "mismatch", "key's curve", "certificate's curve"],
)
def test_files_that_cannot_be_used(pair: Pair, spoil: Callable[[Path, Path], Any], sentence: str) -> None:
    """The start ends with a sentence that names key and file."""
    spoil(*pair)
    with pytest.raises(ConfigError) as refusal:
        ServerTLS(Tls(certificate_file=pair[0], key_file=pair[1]), reactor.seconds)
    assert refusal.value.message.startswith("datamover.toml: tls.")
    assert sentence in refusal.value.message


def test_authorities_that_cannot_be_used(pair: Pair, authority: Authority) -> None:
    """The same holds for a file of authorities that OpenSSL refuses."""
    with authority.file.open("a") as file:
        file.write("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n")
    tls = Tls(certificate_file=pair[0], key_file=pair[1], client_ca_file=authority.file)
    with pytest.raises(ConfigError, match=f"tls.client_ca_file: {authority.file} is refused by OpenSSL"):
        ServerTLS(tls, reactor.seconds)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_check_config_says_the_same(pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int) -> None:
    """What would end the start is found before it; what would not is told as it is."""
    pair[1].chmod(mode)
    path = tmp_path / "dm.toml"
    path.write_text(
        f'[service]\nlisten = ["tcp:10700"]\ndata_directory = "{tmp_path}/data"\n'
        f'[clients.portal]\npassword_hash = "{hash_password("x")}"\n'
        f'[tls]\ncertificate_file = "{pair[0]}"\nkey_file = "{pair[1]}"\n'
    )
    status = admin(["check-config", "--config", str(path)])
    told = capsys.readouterr()
    if mode == 0o644:
        assert status == 1
        assert told.err.startswith(f"datamover-admin: {path}: tls.key_file: {pair[1]} has permissions 0644")
    else:
        assert status == 0
        assert "listener       tcp:10700, TLS" in told.out


def test_the_service_speaks_it(open_directory: Path, authority: Authority, pair: Pair) -> None:
    """A listener has TLS as soon as there is a certificate, but those that are named; pages have it too."""
    service, watched = Service(open_directory, f'[database]\nurl = "{shared().fresh()}"\n'), free_port()
    plain = f"tcp:{service.port}:interface=127.0.0.1"
    with service.config.open("a") as file:
        file.write(
            f'[tls]\ncertificate_file = "{pair[0]}"\nkey_file = "{pair[1]}"\nplaintext = ["{plain}"]\n'
            f'[monitor]\nlisten = "tcp:{watched}:interface=127.0.0.1"\n'
        )
    service.start()
    try:
        watching = http.client.HTTPSConnection("127.0.0.1", watched, timeout=WAIT, context=trusting(authority))
        watching.request("GET", "/health/live")
        assert watching.getresponse().read() == b"ok\n"
        watching.close()
    finally:
        service.stop()
