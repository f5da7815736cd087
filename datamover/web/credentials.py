"""The logins of ``[[sources.credentials]]``, each sent only to URLs under its prefix.

A secret is read from its file when it is used, and again when the file has changed, so it can be replaced without a
restart.
"""

import os
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from datamover.config import schema
from datamover.errors import AuthenticationFailed, ConfigError, Problems, Scope
from datamover.security.secret_files import exposure
from datamover.web.policy import Prefix
from datamover.web.url import WebUrl


class SecretFile:
    """A secret: one line of text in a file, read again when the file changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._text = ""

    def read(self) -> str:
        """Return the text without the line break. Raises AuthenticationFailed, naming the file, if it is unusable."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                reason = exposure(self.path, status.st_mode)
                seen = (status.st_ino, status.st_mtime_ns, status.st_size)
                if reason is None and seen != self._seen:
                    self._text = file.read().decode("utf-8").rstrip("\r\n")
                    self._seen = seen
        except OSError as error:
            raise self._unusable(error.strerror or "unreadable") from None
        except UnicodeDecodeError:
            raise self._unusable("not UTF-8 text") from None
        if reason is not None:
            self._seen = None
            raise AuthenticationFailed(f"cannot use a secret: {reason}", scope=Scope.SOURCE)
        if not self._text or not self._text.isprintable():
            raise self._unusable("expected one line of text")
        return self._text

    def _unusable(self, reason: str) -> AuthenticationFailed:
        self._seen = None
        return AuthenticationFailed(f"cannot use the secret in {self.path}: {reason}", scope=Scope.SOURCE)


@dataclass(frozen=True, slots=True)
class _Login:
    prefix: Prefix
    secret: SecretFile
    username: str | None
    """None: the secret is a bearer token (RFC 6750); else the password (RFC 7617)."""

    def header(self) -> tuple[bytes, bytes]:
        secret = self.secret.read()
        if self.username is None:
            return b"Authorization", b"Bearer " + secret.encode("utf-8")
        return b"Authorization", b"Basic " + b64encode(f"{self.username}:{secret}".encode())


class SourceCredentials:
    """The logins for sources; the longest matching prefix decides."""

    def __init__(self, logins: tuple[_Login, ...] = ()) -> None:
        self._logins = tuple(sorted(logins, key=lambda login: len(login.prefix.path), reverse=True))

    @classmethod
    def from_config(cls, sources: schema.Sources, *, file: str = "datamover.toml") -> "SourceCredentials":
        """Read the prefixes, not the secrets. Raises ConfigError naming file, key, value and what was expected."""
        logins, problems = [], Problems()
        for index, credential in enumerate(sources.credentials):
            with problems.collect():
                logins.append(_login(credential, f"{file}: sources.credentials.{index}"))
        problems.check()
        return cls(tuple(logins))

    def header_for(self, url: WebUrl) -> tuple[bytes, bytes] | None:
        """Return the header (name, value) with the login for ``url``, None if no prefix matches.

        Raises AuthenticationFailed, naming the file, if the secret cannot be read.
        """
        login = next((login for login in self._logins if login.prefix.matches(url)), None)
        return None if login is None else login.header()


def _login(credential: schema.Credential, here: str) -> _Login:
    """Return the login of one table; raises ConfigError."""
    try:
        prefix: Prefix | None = Prefix.parse(credential.url)
    except ValueError:
        prefix = None
    if prefix is None or prefix.subdomains or prefix.port is None:
        raise ConfigError(f'{here}.url: expected a prefix such as "https://portal.example.org/data/", without a login')
    if credential.username is not None and (":" in credential.username or not credential.username.isprintable()):
        raise ConfigError(f"{here}.username = {credential.username!r}: expected a name without ':'")
    path = credential.token_file or credential.password_file
    login = credential.username is not None and credential.password_file is not None
    if path is None or login == (credential.token_file is not None):
        raise ConfigError(f"{here}: expected token_file, or username and password_file")
    return _Login(prefix, SecretFile(path), credential.username if login else None)
