"""What a configuration says of an SFTP destination, and what a known_hosts file says of a server."""

import base64

import pytest

from datamover import errors
from datamover.config.schema import check_table
from datamover.protocols.sftp import SFTP
from datamover.protocols.sftp.ssh.known_hosts import KnownHosts, Verdict


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "known_hosts_file"),
        ({"known_hosts_file": "/k"}, "expected private_key_file or password_file"),
        ({"known_hosts_file": "k", "password_file": "/p"}, "absolute"),
        ({"known_hosts_file": "/k", "password_file": "/p", "passphrase_file": "/q"}, "private_key_file beside"),
        ({"known_hosts_file": "/k", "password": "x"}, "unknown key"),
    ],
)
def test_options(table: dict[str, str], words: str) -> None:
    """Options that cannot work are refused in one line."""
    with pytest.raises(errors.ConfigError, match=words):
        check_table(SFTP.options, table, file="f")


@pytest.mark.parametrize(
    "url",
    [
        "sftp://host/srv",
        "sftp://u:p@host/srv",
        "sftp://u@host",
        "sftp://u@h:x/srv",
        "sftp://u@h/a/../b",
        "sftp://u@h/a?b",
    ],
)
def test_urls_refused(url: str) -> None:
    """A URL without user or path, with a password, a query or a way up is refused."""
    with pytest.raises(ValueError, match="expected sftp://"):
        SFTP.check_url(url)


def test_urls() -> None:
    """A URL tells root, host and user, each decoded."""
    url = "sftp://data%40mover@[::1]:2222/srv/with%20space/"
    SFTP.check_url(url)
    assert (SFTP.root(url), SFTP.host(url), SFTP.user(url)) == ("/srv/with space", "::1", "data@mover")


@pytest.mark.parametrize(
    ("line", "host", "port", "verdict"),
    [
        ("host {key} a comment", "HOST", 22, Verdict.KNOWN),
        ("other,Host {key}", "host", 22, Verdict.KNOWN),
        ("[host]:22 {key}", "host", 22, Verdict.UNKNOWN),
        ("host {key}", "host", 2222, Verdict.UNKNOWN),
        ("*.example.org {key}", "vis.example.org", 22, Verdict.KNOWN),
        ("vis?.example.org {key}", "vis.example.org", 22, Verdict.UNKNOWN),
        ("::1 {key}", "::1", 22, Verdict.KNOWN),
        ("host {other}", "host", 22, Verdict.CHANGED),
        ("host {key}\nhost {other}", "host", 22, Verdict.KNOWN),
        ("@revoked host {key}\nhost {key}", "host", 22, Verdict.REVOKED),
        ("@revoked host {key}\nhost {key}", "elsewhere", 22, Verdict.UNKNOWN),
        ("@cert-authority host {key}", "host", 22, Verdict.UNKNOWN),
        ("# host {key}\n\nhost\nhost ssh-ed25519 !!!\n|1|x|y {key}\n|1| {key}", "host", 22, Verdict.UNKNOWN),
    ],
)
def test_known_hosts(line: str, host: str, port: int, verdict: Verdict) -> None:
    """A known_hosts file is read as ssh reads it; lines that cannot be read say nothing."""
    key, other = (b"\0\0\0\x0bssh-ed25519" + bytes([number]) * 36 for number in range(2))
    public = {name: f"ssh-ed25519 {base64.b64encode(blob).decode()}" for name, blob in (("key", key), ("other", other))}
    assert KnownHosts(line.format(**public)).verdict(host, port, key) is verdict
