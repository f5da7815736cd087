"""The signing key, read from its files again after a while, and at once when the service refuses it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datamover.concurrency.threads import Threads
from datamover.protocols.http_place.secrets import secret_line
from datamover.protocols.s3.signing import Credentials

FRESH = 60.0
"""Seconds for which the key is used before its files are read again."""


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """Where the key of one destination lies."""

    access_key_id: str
    secret_key: Path
    session_token: Path | None = None

    def read(self) -> Credentials:
        """Read them; blocks. Raises AuthenticationFailed."""
        token = None if self.session_token is None else secret_line("session_token_file", self.session_token)
        return Credentials(self.access_key_id, secret_line("secret_key_file", self.secret_key), token)


class KeyReader:
    """Reads the key of one destination."""

    def __init__(self, files: KeyFiles, threads: Threads, seconds: Callable[[], float]) -> None:
        """Read in ``threads``; ``seconds`` is a monotonic clock."""
        self._files = files
        self._threads = threads
        self._seconds = seconds
        self._read: Credentials | None = None
        self._at = 0.0

    async def get(self, refused: Credentials | None = None) -> Credentials:
        """Return the key; its files are read again if it is old or was ``refused``. Raises AuthenticationFailed."""
        if self._read is None or self._read == refused or self._seconds() - self._at > FRESH:
            self._read = await self._threads.run(self._files.read)
            self._at = self._seconds()
        return self._read
