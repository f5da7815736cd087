"""The login at one server: a bearer token (RFC 6750), or a name and a password as the server asks for them.

A password is sent only after the server has asked for it: by Digest if it offers that, else by Basic (RFC 7617).
Digest is RFC 7616, and RFC 2617 and 2069 before it: MD5, SHA-256 and SHA-512-256, of requests without their bodies.
"""

import hashlib
import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from datamover.concurrency.threads import Threads
from datamover.protocols.http.answers import Head
from datamover.protocols.http_place.secrets import secret_line

FRESH = 60.0
"""Seconds for which a secret is used before its file is read again."""

_ALGORITHMS = {"sha-512-256": "sha512_256", "sha-256": "sha256", "md5": "md5"}
"""The best first."""

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?=[\s,]|$)")
_PARAMETER = re.compile(rf'[\s,]*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_TOKEN68 = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")


@dataclass(frozen=True, slots=True)
class LoginFiles:
    """The login in a destination's table; there may be none."""

    username: str | None = None
    password: Path | None = None
    token: Path | None = None

    def read(self) -> str:
        """Return the secret, "" if there is none; blocks. Raises AuthenticationFailed."""
        option, path = ("token_file", self.token) if self.token is not None else ("password_file", self.password)
        # A password may begin or end in a space.
        return "" if path is None else secret_line(option, path, "\r\n")


class DavLogin:
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
        if (digest := self._digest) is not None:
            return digest.authorization(method, target, await self._read())
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
        """Tell whether a request that was refused (401) should be sent again, because its login would be another.

        ``sent`` is the Authorization that it had.
        """
        kind = (sent or "").partition(" ")[0]
        if kind == "Bearer" or (kind == "Basic" and self._basic):
            self._secret = None
            return await self.header("", "") != sent  # Another request may have read the new secret meanwhile.
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


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in that a server offers."""

    scheme: str
    """Lower-case."""
    parameters: Mapping[str, str]
    """By lower-case name."""


def challenges_of(head: Head) -> list[Challenge]:
    """Return the challenges of an answer; what cannot be read is left out."""
    found: list[Challenge] = []
    for value in head.fields.get(b"www-authenticate", ()):
        text, at = value.decode("latin-1"), 0
        while scheme := _SCHEME.match(text, at):
            at = scheme.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(text, at):
                at = parameter.end()
                quoted = parameter[2]
                parameters[parameter[1].lower()] = parameter[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            if not parameters and (token := _TOKEN68.match(text, at)):
                at = token.end()
            found.append(Challenge(scheme[1].lower(), parameters))
    return found


def parameters_of(value: str) -> Mapping[str, str]:
    """Return the parameters of a header such as Authentication-Info, by lower-case name."""
    return {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(value)}


class DigestLogin:
    """The answers to one challenge, whose nonce is used until the server sends another."""

    def __init__(self, challenge: Challenge, username: str, random: Callable[[int], bytes] = os.urandom) -> None:
        self._told = challenge.parameters
        self._username = username
        self._random = random
        self._count = 0
        algorithm = self._told.get("algorithm", "MD5").lower()
        self._session = algorithm.endswith("-sess")
        self._hash = _ALGORITHMS[algorithm.removesuffix("-sess")]
        self.nonce = self._told.get("nonce", "")
        self.proven = False
        """A request with this nonce was accepted."""

    def authorization(self, method: str, target: str, password: str) -> str:
        """Return the value of Authorization for a request; ``target`` is its request target."""
        self._count += 1
        told, counted = self._told, f"{self._count:08x}"
        realm, cnonce = told.get("realm", ""), self._random(16).hex()
        secret = self._digest(f"{self._username}:{realm}:{password}")
        if self._session:
            secret = self._digest(f"{secret}:{self.nonce}:{cnonce}")
        request = self._digest(f"{method}:{target}")
        qop = "auth" in _words(told.get("qop", ""))
        middle = f"{self.nonce}:{counted}:{cnonce}:auth" if qop else self.nonce
        sent = [
            self._user(realm),
            f'realm="{_escaped(realm)}"',
            f'nonce="{_escaped(self.nonce)}"',
            f'uri="{target}"',
            f'response="{self._digest(f"{secret}:{middle}:{request}")}"',
        ]
        if "algorithm" in told:
            sent.append(f"algorithm={told['algorithm']}")
        if "opaque" in told:
            sent.append(f'opaque="{_escaped(told["opaque"])}"')
        if qop:
            sent += ["qop=auth", f"nc={counted}", f'cnonce="{cnonce}"']
        elif self._session:
            sent.append(f'cnonce="{cnonce}"')
        return f"Digest {', '.join(sent)}"

    def renew(self, nonce: str) -> None:
        """Use the nonce that the server wants next (Authentication-Info, RFC 7616 3.5)."""
        if nonce != self.nonce:
            self.nonce, self._count = nonce, 0

    def _user(self, realm: str) -> str:
        if self._told.get("userhash", "").lower() == "true":
            return f'username="{self._digest(f"{self._username}:{realm}")}", userhash=true'
        if self._username.isascii():
            return f'username="{_escaped(self._username)}"'
        if self._told.get("charset", "").lower() == "utf-8":
            return f"username*=UTF-8''{quote(self._username, safe='')}"
        return f'username="{_escaped(self._username)}"'

    def _digest(self, text: str) -> str:
        return hashlib.new(self._hash, text.encode("utf-8"), usedforsecurity=False).hexdigest()


def best_of(challenges: Iterable[Challenge]) -> Challenge | None:
    """Return the Digest challenge with the best algorithm among those that need no digest of the body."""
    able = [each for each in challenges if each.scheme == "digest" and _answerable(each)]
    return min(able, key=lambda each: list(_ALGORITHMS).index(_algorithm(each)), default=None)


def _answerable(challenge: Challenge) -> bool:
    qop = _words(challenge.parameters.get("qop", ""))
    return (
        _ALGORITHMS.get(_algorithm(challenge), "") in hashlib.algorithms_available
        and "nonce" in challenge.parameters
        and (not qop or "auth" in qop)
    )


def _algorithm(challenge: Challenge) -> str:
    return challenge.parameters.get("algorithm", "MD5").lower().removesuffix("-sess")


def _words(text: str) -> set[str]:
    return {word.strip().lower() for word in text.split(",") if word.strip()}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
