"""The login at one server: a bearer token (RFC 6750), or a name and a password as the server asks for them.

A password is sent only after the server has told how: as Digest wherever it offers that, else as Basic (RFC 7617).
"""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datamover.concurrency.threads import Threads
from datamover.protocols.dav.challenges import DigestLogin, best_of, challenges_of, parameters_of
from datamover.protocols.http.answers import Head
from datamover.protocols.http_place.secrets import secret_line

FRESH = 60.0
"""Seconds for which a secret that was read is used."""


@dataclass(frozen=True, slots=True)
class LoginFiles:
    """What a destination's table tells of the login; nothing of it: there is none."""

    username: str | None = None
    password: Path | None = None
    token: Path | None = None

    def read(self) -> str:
        """Return the secret, "" where there is none; blocks. Raises AuthenticationFailed."""
        option, path = ("token_file", self.token) if self.token is not None else ("password_file", self.password)
        # A password may begin or end in a space.
        return "" if path is None else secret_line(option, path, "\r\n")


class Login:
    """The login of all requests to one server."""

    def __init__(self, files: LoginFiles, threads: Threads, seconds: Callable[[], float]) -> None:
        """Read the files in ``threads``; ``seconds`` is a monotonic clock."""
        self._files = files
        self._threads = threads
        self._seconds = seconds
        self._secret: str | None = None
        self._at = 0.0
        self._digest: DigestLogin | None = None
        self._basic = False

    async def header(self, method: str, target: str) -> str | None:
        """Return the value of Authorization for a request, None for none. Raises AuthenticationFailed."""
        if self._files.token is not None:
            return f"Bearer {await self._read()}"
        if self._digest is not None:
            secret = await self._read()
            return self._digest.authorization(method, target, secret)
        if self._basic:
            return f"Basic {b64encode(f'{self._files.username}:{await self._read()}'.encode()).decode('ascii')}"
        return None

    def accepted(self, head: Head) -> None:
        """Remember that a request was accepted."""
        if self._digest is not None:
            self._digest.proven = True
            told = parameters_of(head.headers_of("Authentication-Info"))
            if nonce := told.get("nextnonce"):
                self._digest.renew(nonce)

    async def refused(self, head: Head, sent: str | None) -> bool:
        """Tell whether a request that was refused (401) is worth another try, because it will have another login.

        ``sent`` is the Authorization that it had.
        """
        kind = (sent or "").partition(" ")[0]
        if kind == "Bearer" or (kind == "Basic" and self._basic):
            return await self._is_new_secret()
        if self._files.username is None or self._files.password is None:
            return False
        challenges = challenges_of(head)
        best = best_of(challenges)
        if best is not None:
            used = self._digest
            nonce = best.parameters["nonce"]
            if kind == "Digest" and used is not None and f'nonce="{used.nonce}"' not in (sent or ""):
                return True  # Another request has learnt the new nonce meanwhile.
            self._digest, self._basic = DigestLogin(best, self._files.username), False
            if kind != "Digest":
                return True
            stale = best.parameters.get("stale", "").lower() == "true"
            expired = used is not None and used.proven and nonce != used.nonce
            return stale or expired or await self._is_new_secret()
        if any(each.scheme == "basic" for each in challenges):
            self._digest, self._basic = None, True
            return True
        return False

    async def _is_new_secret(self) -> bool:
        """Read the secret again; tell whether it has changed."""
        before, self._secret = self._secret, None
        return await self._read() != before

    async def _read(self) -> str:
        if self._secret is None or self._seconds() - self._at > FRESH:
            self._secret = await self._threads.run(self._files.read)
            self._at = self._seconds()
        return self._secret
