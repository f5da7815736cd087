"""The keys of the console over SSH: the server's own, and those of an authorized_keys file."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from twisted.conch.ssh.keys import Key

from datamover.console.keys import AuthorizedKeys, host_key
from datamover.errors import StartError

AUTHORIZED = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
KEY = Key.fromString(AUTHORIZED)  # type: ignore[no-untyped-call]


def test_a_host_key_with_a_passphrase(tmp_path: Path) -> None:
    """A host key that needs a passphrase is refused with what to do."""
    private = Ed25519PrivateKey.generate()
    path = tmp_path / "console_host_key"
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"words")))
    path.chmod(0o600)
    with pytest.raises(StartError, match=f"{path} is not a private key without a passphrase: remove it"):
        host_key(path)


@pytest.mark.parametrize(
    "line", [b"(old)", b"{KDEwOnB1YmxpYy1rZXk=}", b"-----BEGIN OPENSSH PRIVATE KEY-----", b"# key"]
)
def test_lines_that_are_no_keys(tmp_path: Path, line: bytes) -> None:
    """A line of another form is ignored, and the keys below it let in."""
    path = tmp_path / "authorized_keys"
    path.write_bytes(line + b"\n" + AUTHORIZED + b"\n")
    assert AuthorizedKeys("operator", path).has(b"operator", KEY)


def test_a_key_that_is_commented_out(tmp_path: Path) -> None:
    """A key behind "#" lets nobody in."""
    path = tmp_path / "authorized_keys"
    path.write_bytes(b"#" + AUTHORIZED + b"\n")
    assert not AuthorizedKeys("operator", path).has(b"operator", KEY)
