"""The keys of the console over SSH: the server's own, made at its first start, and those that are let in."""

# ruff: noqa: N802, N815 - the names of what is overridden are conch's

import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.conch.error import ValidPublicKey
from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.keys import BadKeyError, EncryptedKeyError, FingerprintFormats, Key
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ISSHPrivateKey
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from datamover.bounds.console import LARGEST_OFFERED_KEY
from datamover.console.backend import ConsoleBackend
from datamover.errors import StartError
from datamover.security.secret_files import Unusable, make, read

log = Logger()

SIGNATURES: Mapping[bytes, tuple[bytes, int]] = {
    b"ssh-ed25519": (b"ssh-ed25519", 1),
    b"ecdsa-sha2-nistp256": (b"ecdsa-sha2-nistp256", 2),
    b"ecdsa-sha2-nistp384": (b"ecdsa-sha2-nistp384", 2),
    b"ecdsa-sha2-nistp521": (b"ecdsa-sha2-nistp521", 2),
    b"rsa-sha2-512": (b"ssh-rsa", 2),
    b"rsa-sha2-256": (b"ssh-rsa", 2),
}
"""The signature algorithms of logins, each with the type of its public keys and the number of values in one."""
_KINDS = tuple(kind for kind, _ in SIGNATURES.values())
NOT_A_KEY = (BadKeyError, EncryptedKeyError, UnsupportedAlgorithm, ValueError, TypeError, IndexError, struct.error)
"""What conch raises for data that is not a key, or is one with a passphrase."""


def host_key(path: Path) -> Key:
    """Return the server's key, made where there is none; blocks for a moment. Raises StartError."""
    try:
        if not path.exists():
            private = Ed25519PrivateKey.generate()
            make(path, private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        key: Key = Key.fromString(read(path))
    except OSError as error:
        raise StartError(f"the console's host key: {path}: {error.strerror}") from None
    except Unusable as error:
        raise StartError(f"the console's host key: {error.reason}") from None
    except NOT_A_KEY:
        reason = f"{path} is not a private key without a passphrase: remove it to have one made"
        raise StartError(f"the console's host key: {reason}") from None
    log.info("the console's host key is {fingerprint}", fingerprint=_fingerprint(key))
    return key


def _fingerprint(key: Key) -> str:
    return f"SHA256:{key.public().fingerprint(FingerprintFormats.SHA256_BASE64)}"


class AuthorizedKeys:
    """The keys of one user, in a file as OpenSSH keeps it, read at every login; lines with options are ignored."""

    def __init__(self, username: str, path: Path) -> None:
        self._username = username.encode()
        self._path = path

    def has(self, username: bytes, key: Key) -> bool:
        """Tell whether a key lets a user in."""
        # The file is read whole, whoever asks: how long it takes tells no name.
        return sum(key == each for each in self._read()) > 0 and username == self._username

    def _read(self) -> Iterator[Key]:
        try:
            mode = stat.S_IMODE(self._path.stat().st_mode)
            lines = self._path.read_bytes().splitlines()
        except OSError as error:
            log.warn("console.authorized_keys_file: {path}: {why}", path=str(self._path), why=error.strerror)
            return
        if mode & 0o022:
            log.warn(
                "console.authorized_keys_file: {path} has permissions {mode}, so others may write to it: run "
                "chmod go-w {path}",
                path=str(self._path),
                mode=f"{mode:04o}",
            )
            return
        for line in lines:
            # Of other forms conch reads private keys, and raises AssertionError for some.
            if line.startswith(_KINDS):
                with suppress(*NOT_A_KEY):
                    yield Key.fromString(line, "public_openssh")


def public_key(algorithm: bytes, blob: bytes) -> Key:
    """Return the public key that a client offers, to sign with ``algorithm``. Raises one of ``NOT_A_KEY``.

    By itself conch would also read private keys, in any of their forms, and examine RSA keys of a client's own making.
    """
    if algorithm not in SIGNATURES or len(blob) > LARGEST_OFFERED_KEY:
        raise BadKeyError("a kind of key that is not taken")
    expected, values = SIGNATURES[algorithm]
    kind, *_, rest = getNS(blob, 1 + values)
    if kind != expected or rest:
        raise BadKeyError("another kind of key than its algorithm's")
    key: Key = Key.fromString(blob, "blob")
    return key


@implementer(ICredentialsChecker)
class KeyChecker:
    """Judges a key, and what it signed the login with; records who was let in and who was not.

    conch's own would take SHA-1 signatures too.
    """

    credentialInterfaces = (ISSHPrivateKey,)

    def __init__(self, backend: ConsoleBackend, origin: str, keys: AuthorizedKeys) -> None:
        self._backend = backend
        self._origin = origin
        self._keys = keys

    def requestAvatarId(self, credentials: Any) -> "Deferred[bytes | tuple[()]]":
        if credentials.algName not in SIGNATURES:
            raise UnauthorizedLogin("a signature that is not taken")
        if not credentials.signature:
            raise ValidPublicKey  # Which keys are let in is told to those who have one.
        username: bytes = credentials.username
        right = self._right(credentials)
        self._backend.came(username.decode("utf-8", "replace"), self._origin, let_in=right)
        if not right:
            raise UnauthorizedLogin("a key that is not accepted")
        return succeed(username)

    def _right(self, credentials: Any) -> bool:
        with suppress(*NOT_A_KEY, InvalidSignature):
            key = public_key(credentials.algName, credentials.blob)
            signed_with = getNS(credentials.signature)[0]
            return bool(
                signed_with == credentials.algName
                and self._keys.has(credentials.username, key)
                and key.verify(credentials.signature, credentials.sigData)
            )
        return False
