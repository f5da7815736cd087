"""What a listener must have before it starts, and what clients' certificates are called."""

from pathlib import Path
from socket import gethostname

import pytest
from cryptography import x509
from twisted.logger import capturedLogs, formatEvent

from datamover.app.announcing import Announcing, urls
from datamover.config.identities import Holders, identities, parse_identity
from datamover.config.load import load
from datamover.config.schema import Client, Config, Service
from datamover.errors import ConfigError
from tests.servers.certificates import Authority

CLIENT = '[clients.x]\npassword_hash = "h"\n'
FILES = 'certificate_file = "/c"\nkey_file = "/k"\n'
TLS = f"[tls]\n{FILES}"
PRINT = "AB:" * 31 + "AB"


@pytest.mark.parametrize(
    "text",
    [
        '[service]\nlisten = ["tcp:80:interface=127.0.0.1", "unix:/run/dm.sock"]',
        '[service]\nlisten = ["tcp:80"]\n' + CLIENT + TLS,
        '[service]\nlisten = ["tcp:80"]\n' + CLIENT + '[tls]\nplaintext = ["tcp:80"]',
        '[service]\nlisten = ["tcp:80", "tcp:81"]\n' + CLIENT + TLS + 'plaintext = ["tcp:81"]',
        '[service]\nlisten = ["tcp:80"]\nroles = ["engine"]',
        '[monitor]\nlisten = "tcp:80"\npublic = true',
        '[monitor]\nlisten = "tcp:80"\n' + CLIENT + TLS,
        f'[clients.x]\ncertificate = "sha256:{PRINT}"\n{TLS}client_ca_file = "/ca"',
    ],
)
def test_listeners_that_may_start(tmp_path: Path, text: str) -> None:
    """Beyond this machine a listener has logins, and TLS or its name among those in plain text."""
    path = tmp_path / "dm.toml"
    path.write_text(text)
    load(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[service]\nlisten = ["tcp:80"]', "service.listen = 'tcp:80': expected a loopback or Unix listener, or at"),
        ('[service]\nlisten = ["tcp:80"]\n' + TLS, "service.listen = 'tcp:80': expected a loopback or Unix listener"),
        ('[service]\nlisten = ["tcp:80"]\n' + CLIENT, "passwords would cross the network in the clear"),
        (
            '[service]\nlisten = ["tcp:80", "tcp:81"]\n' + CLIENT + '[tls]\nplaintext = ["tcp:80"]',
            "service.listen = 'tcp:81': passwords would cross",
        ),
        ('[monitor]\nlisten = "tcp:80"\n' + CLIENT, "monitor.listen = 'tcp:80': passwords would cross"),
        ('[monitor]\nlisten = "tcp:80"', "or public = true"),
        ('[tls]\nplaintext = ["tcp:80"]', "tls.plaintext = 'tcp:80': expected a listener as service.listen"),
        ('[tls]\nplaintext = ["ssl:80"]', "tls.plaintext.0 = 'ssl:80': expected a Twisted endpoint"),
        ('[tls]\ncertificate_file = "/c"', "tls: expected certificate_file and key_file, or neither"),
        ('[tls]\nclient_ca_file = "/c"', "tls.client_ca_file: expected certificate_file and key_file beside it"),
        ("[clients.x]", "clients.x: expected password_hash, or certificate, or both"),
        ('[clients.x]\ncertificate = "dns:x"', "clients.x.certificate: expected [tls] client_ca_file beside it"),
        ('[clients.x]\ncertificate = "x"', "clients.x.certificate = 'x': expected \"sha256:\" and the fingerprint"),
        (
            f'[clients.x]\ncertificate = "dns:X"\n[clients.y]\ncertificate = "dns:x"\n{TLS}client_ca_file = "/ca"',
            "clients.y.certificate = 'dns:x': is client 'x''s already",
        ),
    ],
)
def test_listeners_that_may_not(tmp_path: Path, text: str, sentence: str) -> None:
    """A listener that lacks a login or TLS is refused with what to do."""
    path = tmp_path / "dm.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        load(path)
    assert sentence in refusal.value.message


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        (f"sha256:{PRINT}", "sha256:" + "ab" * 32),
        ("sha256:" + "aB" * 32, "sha256:" + "ab" * 32),
        ("dns:Portal.Example.org", "dns:portal.example.org"),
        ("email:portal@example.org", "email:portal@example.org"),
        ("uri:spiffe://example.org/portal", "uri:spiffe://example.org/portal"),
        ("subject:CN=portal,O=Example", "subject:CN=portal,O=Example"),
        *((text, None) for text in ("", "portal", "sha256:ab", "dns:a b", "email:x", "subject:x", "md5:" + "ab" * 16)),
    ],
)
def test_identities_have_one_spelling(text: str, identity: str | None) -> None:
    """An identity is read however it is spelt; what is none is refused."""
    if identity is None:
        with pytest.raises(ValueError, match='expected "sha256:"'):
            parse_identity(text)
    else:
        assert parse_identity(text) == identity


def test_whose_a_certificate_is(tmp_path: Path) -> None:
    """A certificate is one client's by its fingerprint, its subject or its name; what is two clients' is nobody's."""
    file, _ = Authority(tmp_path).issue("portal.example.org", "10.0.0.1", name="portal")
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    found = identities(certificate)
    assert {"dns:portal.example.org", "subject:CN=portal"} < found
    assert len(found) == 3
    for identity in found:
        assert Holders({identity: "portal"}).name(certificate, "a") == "portal"
    assert Holders({"dns:portal.example.org": "portal", "subject:CN=portal": "other"}).name(certificate, "a") is None
    assert Holders({"dns:example.org": "portal"}).name(certificate, "a") is None


@pytest.mark.parametrize(
    ("listener", "url"),
    [
        ("tcp:10700:interface=127.0.0.1", "http://127.0.0.1:10700/data_mover"),
        (r"tcp:port=1:interface=\:\:1", "http://[::1]:1/data_mover"),
        ("tcp:2", f"http://{gethostname()}:2/data_mover"),
        ("unix:/run/datamover/socket:mode=660", "unix:/run/datamover/socket"),
        ("unix:address=/run/socket", "unix:/run/socket"),
    ],
)
def test_where_to_call(listener: str, url: str) -> None:
    """The URL to call is told as a client would write it."""
    settings = Config().model_copy(update={"service": Service(listen=(listener,))})
    assert urls(settings) == [url]


@pytest.mark.parametrize(
    ("listeners", "clients", "tried"),
    [
        (("unix:/run/dm.sock", "tcp:1:interface=127.0.0.1"), {}, "S('http://127.0.0.1:1/data_mover')"),
        (("unix:/run/dm.sock",), {}, None),
        (("tcp:1:interface=127.0.0.1",), {"portal": Client(password_hash="x")}, None),
    ],
)
def test_what_to_try(listeners: tuple[str, ...], clients: dict[str, Client], tried: str | None) -> None:
    """The example of a first call works as it stands: without a login, and not over a Unix socket."""

    async def opened() -> None:
        pass

    settings = Config().model_copy(update={"service": Service(listen=listeners), "clients": clients})
    announcing = Announcing(settings, opened)
    with capturedLogs() as told:
        announcing.startService()
    [ready] = [line for line in map(formatEvent, told) if "is ready" in line]
    assert ("try: " in ready) == (tried is not None)
    assert (tried or "") in ready
