"""The signing key, read from its files again after a while, and at once when the service refuses it."""

from collections.abc import Callable
from configparser import ConfigParser
from configparser import Error as NotIni
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from datamover.concurrency.threads import Threads
from datamover.errors import AuthenticationFailed
from datamover.protocols.http_place.secrets import secret_line, secret_text
from datamover.protocols.s3.signing import SigningKey

FRESH = 60.0
"""Seconds for which the key is used before its files are read again."""


class KeySource(Protocol):
    """Where the key of one destination lies."""

    def read(self) -> SigningKey:
        """Read it; blocks. Raises AuthenticationFailed."""
        ...


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """A key whose secrets lie in a file each."""

    access_key_id: str
    secret_key: Path
    session_token: Path | None = None

    def read(self) -> SigningKey:
        """Read them; blocks. Raises AuthenticationFailed."""
        token = None if self.session_token is None else secret_line("session_token_file", self.session_token)
        return SigningKey(self.access_key_id, secret_line("secret_key_file", self.secret_key), token)


@dataclass(frozen=True, slots=True)
class SharedFile:
    """One file that holds all of a key, which may be replaced as a whole: a temporary key's id changes with it.

    Source: "Configuration and credential file settings", AWS CLI User Guide.
    """

    path: Path
    profile: str

    def read(self) -> SigningKey:
        """Read it; blocks. Raises AuthenticationFailed."""
        text = secret_text("credentials_file", self.path)
        parser = ConfigParser(interpolation=None, default_section="")
        try:
            parser.read_string(text)
        except NotIni:  # Its words may quote the file.
            raise AuthenticationFailed(f"credentials_file {self.path} is not of the form of AWS's") from None
        if not parser.has_section(self.profile):
            raise AuthenticationFailed(f"credentials_file {self.path} has no profile [{self.profile}]")
        found = parser[self.profile]
        name, secret, token = (
            found.get(f"aws_{key}", "") for key in ("access_key_id", "secret_access_key", "session_token")
        )
        if not name or not secret:
            raise AuthenticationFailed(
                f"credentials_file {self.path} has no aws_access_key_id or no aws_secret_access_key in [{self.profile}]"
            )
        if not all(sign.isprintable() for sign in name + secret + token):
            raise AuthenticationFailed(f"credentials_file {self.path} holds values of more than one line")
        return SigningKey(name, secret, token or None)


class KeyReader:
    """Reads the key of one destination."""

    def __init__(self, files: KeySource, threads: Threads, seconds: Callable[[], float]) -> None:
        """Read in ``threads``; ``seconds`` is a monotonic clock."""
        self._files = files
        self._threads = threads
        self._seconds = seconds
        self._read: SigningKey | None = None
        self._at = 0.0

    async def get(self, refused: SigningKey | None = None) -> SigningKey:
        """Return the key; its files are read again if it is old or was ``refused``. Raises AuthenticationFailed."""
        if self._read is None or self._read == refused or self._seconds() - self._at > FRESH:
            self._read = await self._threads.run(self._files.read)
            self._at = self._seconds()
        return self._read
