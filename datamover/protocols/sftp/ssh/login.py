"""Log in: read the secrets from their files at each login, and do the SSH user authentication (RFC 4252)."""

# ruff: noqa: N802, N815, RUF012 - the names of what is overridden are conch's

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from twisted.conch.ssh.keys import BadKeyError, EncryptedKeyError, Key
from twisted.conch.ssh.service import SSHService
from twisted.conch.ssh.userauth import SSHUserAuthClient
from twisted.logger import Logger

from datamover import errors
from datamover.bounds.servers import MOST_LOGIN_QUESTIONS
from datamover.protocols.sftp.ssh.known_hosts import KnownHosts, fingerprint
from datamover.protocols.sftp.ssh.wire import MessageReader, number, string, words
from datamover.security.secret_files import Unusable, read

_INFO_RESPONSE = 61
_SIGNATURES = (b"rsa-sha2-512", b"rsa-sha2-256")


@dataclass(frozen=True, slots=True)
class SshCredentials:
    """The key and the password of a login."""

    key: Key | None = field(default=None, repr=False)
    password: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """The files that hold one destination's secrets."""

    known_hosts: Path
    private_key: Path | None = None
    passphrase: Path | None = None
    password: Path | None = None

    def read(self) -> tuple[KnownHosts, SshCredentials]:
        """Read the files; blocks, for long if a passphrase protects the key.

        Raises AuthenticationFailed, HostKeyMismatch.
        """
        try:
            known = KnownHosts(self.known_hosts.read_text("utf-8", "replace"))
        except OSError as error:
            raise errors.HostKeyMismatch(
                f"known_hosts_file {self.known_hosts} cannot be read: {error.strerror}; make it from what "
                "`datamover-admin scan-host-key` prints"
            ) from None
        key = None if self.private_key is None else self._key(self.private_key)
        password = None if self.password is None else _secret("password_file", self.password)
        return known, SshCredentials(key, password)

    def _key(self, path: Path) -> Key:
        passphrase = None if self.passphrase is None else _secret("passphrase_file", self.passphrase)
        data = _content("private_key_file", path)
        try:
            key = Key.fromString(data, passphrase=passphrase)  # type: ignore[no-untyped-call]
        except EncryptedKeyError:
            raise errors.AuthenticationFailed(
                f"private_key_file {path} is encrypted, and there is no passphrase_file"
            ) from None
        except (BadKeyError, UnsupportedAlgorithm, ValueError, TypeError, IndexError, KeyError) as error:
            # The parsers' messages may quote the file.
            why = "is not a private key that is understood"
            if passphrase is not None:
                why += ", or passphrase_file does not hold its passphrase"
            raise errors.AuthenticationFailed(f"private_key_file {path} {why} ({type(error).__name__})") from None
        if key.isPublic():
            raise errors.AuthenticationFailed(f"private_key_file {path} holds a public key; name the private one")
        if key.type() == "DSA":
            raise errors.AuthenticationFailed(f"private_key_file {path} holds a DSA key; make an ed25519 one")
        return key  # type: ignore[no-any-return]


def _content(option: str, path: Path) -> bytes:
    try:
        return read(path)
    except Unusable as error:
        raise errors.AuthenticationFailed(f"{option}: {error.reason}") from None
    except OSError as error:
        raise errors.AuthenticationFailed(
            f"{option} {path} cannot be read by user id {os.geteuid()}: {error.strerror}"
        ) from None


def _secret(option: str, path: Path) -> bytes:
    """Return a file's content without its last line's end."""
    return _content(option, path).removesuffix(b"\n").removesuffix(b"\r")


class SshLogin(SSHUserAuthClient):
    """Tries each method once: the key, the password, and the password as the answer to questions."""

    preferredOrder = [b"publickey", b"password", b"keyboard-interactive"]
    _log = Logger(observer=lambda event: None)  # type: ignore[arg-type]  # conch tells every step at "info"

    def __init__(self, user: str, credentials: SshCredentials, service: SSHService) -> None:
        super().__init__(user.encode("utf-8"), service)
        self._credentials = credentials
        self._tried: list[bytes] = []
        self._questions = 0

    def begin(self, transport: Any) -> None:
        """Request the service and, unless the key is RSA, send the signature in the same round trip."""
        self.transport = transport
        transport.requestService(self)
        key = self._credentials.key
        # The server may announce later which signature algorithms of RSA it accepts.
        if key is not None and key.type() != "RSA":
            self._tried.append(b"publickey")
            self._sign()

    def serviceStarted(self) -> None:
        if not self._tried:
            super().serviceStarted()

    def ssh_USERAUTH_BANNER(self, packet: bytes) -> None:
        """Ignore the server's banner."""

    def ssh_USERAUTH_SUCCESS(self, packet: bytes) -> None:
        transport: Any = self.transport
        transport.logged_in = True
        transport.setService(self.instance)

    def ssh_USERAUTH_FAILURE(self, packet: bytes) -> None:
        offered = MessageReader(packet).names()
        for kind in self.preferredOrder:
            if kind in offered and kind not in self._tried and self._start(kind):
                self._tried.append(kind)
                return
        self._refused(offered)

    def ssh_USERAUTH_PK_OK(self, packet: bytes) -> None:
        """Handle message 60: the server wants a new password, or asks questions."""
        if self.lastAuth == b"password":
            self._fail("the password has expired; change it and correct password_file")
        elif self.lastAuth == b"keyboard-interactive" and self._questions < MOST_LOGIN_QUESTIONS:
            self._answer(MessageReader(packet))
        else:
            self._fail(f"the server asks more than {MOST_LOGIN_QUESTIONS} rounds of questions")

    def _start(self, kind: bytes) -> bool:
        if kind == b"publickey":
            return self._sign()
        if self._credentials.password is None:
            return False
        if kind == b"password":
            self.askForAuth(kind, b"\0" + string(self._credentials.password))
        else:
            self.askForAuth(kind, string(b"") + string(b""))
        return True

    def _sign(self) -> bool:
        key = self._credentials.key
        if key is None:
            return False
        transport: Any = self.transport
        algorithm = key.sshType()  # type: ignore[no-untyped-call]
        if algorithm == b"ssh-rsa":
            taken = transport.peerExtensions.get(b"server-sig-algs", _SIGNATURES[0]).split(b",")
            algorithm = next((name for name in _SIGNATURES if name in taken), _SIGNATURES[0])
        request = b"\1" + string(algorithm) + string(key.blob())  # type: ignore[no-untyped-call]
        asked = b"\x32" + b"".join(map(string, (self.user, self.instance.name, b"publickey")))
        signature = key.sign(string(transport.sessionID) + asked + request, signatureType=algorithm)
        self.askForAuth(b"publickey", request + string(signature))
        return True

    def _answer(self, questions: MessageReader) -> None:
        """Answer the first hidden question of the first round with the password, every other with nothing."""
        for _ in range(3):
            questions.string()
        hidden = []
        for _ in range(questions.number()):
            questions.string()
            hidden.append(not questions.byte())
        answers = [b""] * len(hidden)
        if self._questions == 0 and True in hidden:
            answers[hidden.index(True)] = self._credentials.password or b""
        self._questions += 1
        transport: Any = self.transport
        transport.sendPacket(_INFO_RESPONSE, number(len(answers)) + b"".join(map(string, answers)))

    def _refused(self, offered: list[bytes]) -> None:
        key = self._credentials.key
        if not self._tried:
            tried = "nothing that is configured here"
        elif b"publickey" in self._tried and key is not None:
            tried = f"the key {fingerprint(key.public().blob())}"  # type: ignore[no-untyped-call]
            tried += " and the password" if len(self._tried) > 1 else ""
        else:
            tried = "the password"
        self._fail(
            f"user {words(self.user)!r} is refused with {tried}; the server accepts {words(b', '.join(offered))}: "
            "correct private_key_file or password_file, or the account's authorized_keys"
        )

    def _fail(self, why: str) -> None:
        transport: Any = self.transport
        transport.fail(errors.AuthenticationFailed(why))
