"""TLS with a client's certificate, for destinations: shown to servers that ask for one, and read again when renewed."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor, task

from datamover.app.inspection import check_named
from datamover.config.load import load
from datamover.errors import ConfigError, TLSFailed
from datamover.protocols.http.client.agent import PolicyAgent
from datamover.protocols.http.client.response import Response
from datamover.protocols.tls.files import TlsFiles
from datamover.protocols.tls.options import TlsOptions
from datamover.protocols.tls.verified import VerifiedTLS
from datamover.registry.destinations import Registry
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import SourcePolicy
from datamover.web.url import WebUrl
from tests.protocols.reading import serving
from tests.servers.certificates import CERTIFICATE_OF_UNKNOWN_CURVE, UNKNOWN_CURVE, Authority, ServerTLS
from tests.servers.nginx import Nginx
from tests.servers.web import File

Pair = tuple[Path, Path]


@pytest.fixture
def clients(tmp_path: Path) -> Authority:
    """The authority that signs the clients' certificates."""
    return Authority(tmp_path, "clients")


@asynccontextmanager
async def asking(
    url: str, authority: Authority | None, pair: Pair | None, seconds: Callable[[], float] = reactor.seconds
) -> AsyncIterator[PolicyAgent]:
    """An agent for one host, that shows this certificate."""
    named = {} if pair is None else {"certificate_file": str(pair[0]), "key_file": str(pair[1])}
    trusted = {} if authority is None else {"ca_file": str(authority.file)}
    options = TlsOptions.model_validate({**trusted, **named})
    agent = PolicyAgent(
        reactor,
        SourcePolicy(rules=()).trusting([url]),
        SourceCredentials(()),
        connect_timeout=5.0,
        idle_timeout=5.0,
        tls=options.tls("place", seconds),
    )
    try:
        yield agent
    finally:
        await agent.close()


async def ask(agent: PolicyAgent, url: str) -> Response:
    answer = await agent.send(b"GET", WebUrl.parse(url))
    await answer.body.close()
    return answer


@pytest_twisted.ensureDeferred
async def test_nginx_that_asks_for_a_certificate(tmp_path: Path, clients: Authority) -> None:
    """nginx lets in whom the authority of its clients signed, and after a renewal sees the new certificate."""
    clock = task.Clock()
    config = f"""
        ssl_client_certificate {clients.file};
        ssl_verify_client on;
        keepalive_timeout 0;
        add_header Subject $ssl_client_s_dn;
    """
    (tmp_path / "root").mkdir()
    (tmp_path / "root/f").write_bytes(b"private")
    pair = clients.issue(name="first")
    with Nginx(tmp_path / "root", tls=True, config=config) as nginx:
        assert nginx.authority is not None
        url = f"{nginx.url}/f"
        async with asking(url, nginx.authority, None) as agent:
            assert (await ask(agent, url)).code == 400
        async with asking(url, nginx.authority, pair, clock.seconds) as agent:
            answer = await ask(agent, url)
            assert (answer.code, answer.head.header("Subject")) == (200, "CN=first")
            for name in ("second", "third"):
                for old, new in zip(pair, clients.issue(name=name), strict=True):
                    new.replace(old)
                clock.advance(2)
                answer = await ask(agent, url)
                assert answer.head.header("Subject") == f"CN={name}"
            pair[0].write_text("not a certificate any more")
            clock.advance(2)
            assert (await ask(agent, url)).head.header("Subject") == "CN=third"


@pytest_twisted.ensureDeferred
async def test_a_chain(tmp_path: Path, clients: Authority) -> None:
    """The certificates that follow the first in its file are shown with it."""
    certificate, key = clients.issue(name="first")
    certificate.write_bytes(certificate.read_bytes() + clients.file.read_bytes())
    server = Authority(tmp_path, "servers")
    tls = ServerTLS(*server.issue(), clients=clients.file)
    async with serving(tls) as web, asking(web.url_of("localhost"), server, (certificate, key)) as agent:
        web.route("/f", File(b"private"))
        assert (await ask(agent, f"{web.url_of('localhost')}/f")).code == 200


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda clients: None, r"it asks for a certificate: name one in \[destinations.place\] certificate_file"),
        (
            lambda clients: Authority(clients.directory, "strangers").issue(),
            r"it refuses the certificate in \[destinations.place\] certificate_file \(.*alert unknown ca\)",
        ),
        (
            lambda clients: clients.issue(valid_for=timedelta(hours=-1)),
            r"it refuses the certificate in \[destinations.place\] certificate_file \(.*alert certificate expired\)",
        ),
    ],
    ids=["none", "stranger's", "expired"],
)
async def test_a_server_that_refuses(
    tmp_path: Path, clients: Authority, make: Callable[[Authority], Pair | None], words: str
) -> None:
    """What a server refuses of a client's certificate is told, with the key to look at."""
    server = Authority(tmp_path, "servers")
    tls = ServerTLS(*server.issue(), clients=clients.file)
    async with serving(tls) as web, asking(web.url_of("localhost"), server, make(clients)) as agent:
        with pytest.raises(TLSFailed, match=f"no secure connection to localhost: {words}"):
            await ask(agent, f"{web.url_of('localhost')}/f")
        assert web.requests == []


def unreadable(pair: Pair, which: int) -> None:
    pair[which].unlink()
    pair[which].mkdir()


MISTAKES: list[tuple[Callable[[Authority, Pair], Any], str]] = [
    (lambda _, pair: pair[0].unlink(), "certificate_file = '.*': No such file or directory: expected a readable file"),
    (lambda _, pair: unreadable(pair, 0), "certificate_file = '.*': Is a directory: expected a readable file"),
    (lambda _, pair: pair[0].write_text("x"), "certificate_file = '.*': expected a readable file of PEM certificates"),
    (lambda _, pair: shutil.copy(pair[1], pair[0]), "certificate_file = '.*': expected a readable file of PEM"),
    (lambda _, pair: pair[1].unlink(), "key_file = '.*': No such file or directory: expected a readable file of a"),
    (lambda _, pair: unreadable(pair, 1), "key_file = '.*': Is a directory: expected a readable file of a private key"),
    (lambda _, pair: pair[1].write_text("x"), "key_file = '.*': expected a readable file of a private key in PEM"),
    (lambda _, pair: pair[1].write_bytes(UNKNOWN_CURVE), "key_file = '.*': expected a readable file of a private key"),
    (
        lambda _, pair: pair[0].write_bytes(CERTIFICATE_OF_UNKNOWN_CURVE),
        "certificate_file = '.*': expected a certificate that OpenSSL can use",
    ),
    (lambda _, pair: pair[1].chmod(0o644), "key_file: .* has permissions 0644.*: run chmod 0600"),
    (
        lambda clients, pair: shutil.copy(clients.issue()[1], pair[1]),
        "key_file = '.*': expected the key of the certificate in certificate_file",
    ),
]


@pytest.mark.parametrize(("break_it", "words"), MISTAKES)
def test_files_that_cannot_be_used(
    tmp_path: Path, clients: Authority, break_it: Callable[[Authority, Pair], Any], words: str
) -> None:
    """A wrong or unreadable file, or a key of another certificate, is told when the configuration is read."""
    pair = clients.issue()
    break_it(clients, pair)
    with pytest.raises(ConfigError, match=rf"datamover.toml: destinations\.bucket\.{words}"):
        registered(tmp_path, f'certificate_file = "{pair[0]}"\nkey_file = "{pair[1]}"')


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('certificate_file = "/c"', "destinations.bucket: expected certificate_file and key_file together"),
        ('key_file = "/k"', "destinations.bucket: expected certificate_file and key_file together"),
        ('ca_file = "/nowhere"', "destinations.bucket.ca_file = '/nowhere': expected a readable file of PEM certif"),
        ('key_file = "k"', "destinations.bucket.key_file = 'k': expected an absolute path"),
    ],
)
def test_keys_that_cannot_be(tmp_path: Path, table: str, words: str) -> None:
    """A certificate without its key, and the other way round, is told when the configuration is read."""
    with pytest.raises(ConfigError, match=words):
        registered(tmp_path, table)


@pytest_twisted.ensureDeferred
async def test_the_authorities_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a table names no file they are trusted, as they are when the first connection is made."""
    server = Authority(tmp_path, "servers")
    async with serving(ServerTLS(*server.issue())) as web, asking(web.url_of("localhost"), None, None) as agent:
        web.route("/f", File(b"public"))
        monkeypatch.setenv("SSL_CERT_FILE", str(server.file))
        assert (await ask(agent, f"{web.url_of('localhost')}/f")).code == 200


def test_name_in_other_letters() -> None:
    """A host's name that is not ASCII is told to the server as its certificate has it (RFC 5890)."""
    tls = VerifiedTLS(TlsFiles("destinations.x"), lambda: 0.0)
    connection: Any = tls.creator("bücher.example").clientConnectionForTLS(None)  # type: ignore[arg-type]
    assert connection.get_servername() == b"xn--bcher-kva.example"


def test_told_once(tmp_path: Path) -> None:
    """What is wrong with these files is told by the destination, and not once more by the look at all named files."""
    secret = tmp_path / "secret"
    path = tmp_path / "datamover.toml"
    path.write_text(
        f'[service]\ndata_directory = "{tmp_path}"\n[destinations.bucket]\nurl = "s3://bucket"\naccess_key_id = "A"\n'
        f'secret_key_file = "{secret}"\nca_file = "/nowhere/ca"\ncertificate_file = "/nowhere/c"\n'
        'key_file = "/nowhere/k"\n'
    )
    with pytest.raises(ConfigError) as caught:
        check_named(load(path))
    assert len(caught.value.problems) == 1
    assert "destinations.bucket.secret_key_file" in caught.value.message


def registered(directory: Path, table: str) -> None:
    """Read a configuration with a destination that has these keys."""
    secret = directory / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o600)
    path = directory / "datamover.toml"
    path.write_text(
        f'[destinations.bucket]\nurl = "s3://bucket"\naccess_key_id = "A"\nsecret_key_file = "{secret}"\n{table}\n'
    )
    Registry.from_config(load(path), reactor)
