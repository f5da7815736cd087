"""Check a server's key against a known_hosts file, as sshd(8) describes that file. Pure.

Certificates are not supported: ``@cert-authority`` lines are ignored.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from datamover.protocols.sftp.ssh.wire import MalformedMessage, MessageReader


class Verdict(Enum):
    """The result of looking up a key that a server offers."""

    KNOWN = "known"
    """The key is listed for the server."""
    UNKNOWN = "unknown"
    """No line names the server."""
    CHANGED = "changed"
    """Other keys are listed for the server."""
    REVOKED = "revoked"
    """A line marks the key as revoked."""


@dataclass(frozen=True, slots=True)
class _Line:
    revoked: bool
    hosts: str
    key: bytes


class KnownHosts:
    """The lines of a known_hosts file; malformed lines are ignored."""

    def __init__(self, text: str) -> None:
        self._lines = list(_lines(text))

    def verdict(self, host: str, port: int, key: bytes) -> Verdict:
        """Look up ``key``, which is in the form that the server sent."""
        named = [line for line in self._lines if _names(line.hosts, entry_name(host, port))]
        if any(line.revoked and line.key == key for line in named):
            return Verdict.REVOKED
        trusted = [line.key for line in named if not line.revoked]
        if key in trusted:
            return Verdict.KNOWN
        return Verdict.CHANGED if trusted else Verdict.UNKNOWN

    def kinds(self, host: str, port: int) -> list[bytes]:
        """Return the types of the keys that are listed for the server, so that one of them can be requested."""
        name = entry_name(host, port)
        return [key_kind(line.key) for line in self._lines if not line.revoked and _names(line.hosts, name)]


def entry_name(host: str, port: int) -> str:
    """Return the name by which the file lists a server."""
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def entry(host: str, port: int, key: bytes) -> str:
    """Return the known_hosts line of a key."""
    return f"{entry_name(host, port)} {key_kind(key).decode('ascii')} {base64.b64encode(key).decode('ascii')}"


def fingerprint(key: bytes) -> str:
    """Return a key's fingerprint as ssh-keygen -l writes it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode("ascii").rstrip("=")


def key_kind(key: bytes) -> bytes:
    """Return the type that a public key states, b"" if it is malformed."""
    try:
        return MessageReader(key).string()
    except MalformedMessage:
        return b""


def _lines(text: str) -> Iterator[_Line]:
    for line in text.splitlines():
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", "@revoked"):
            continue
        try:
            key = base64.b64decode(fields[2], validate=True)
        except (binascii.Error, ValueError):
            continue
        yield _Line(marker == "@revoked", fields[0], key)


def _names(hosts: str, name: str) -> bool:
    """Tell whether a line's first field, hashed or patterns, matches ``name``; a "!" pattern excludes it."""
    if hosts.startswith("|1|"):
        return _hashed(hosts, name)
    found = False
    for pattern in hosts.lower().split(","):
        if _matches(pattern.removeprefix("!"), name):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _matches(pattern: str, name: str) -> bool:
    words = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
    return re.fullmatch(words, name) is not None


def _hashed(hosts: str, name: str) -> bool:
    parts = hosts.split("|")
    if len(parts) != 4:
        return False
    try:
        salt, digest = base64.b64decode(parts[2]), base64.b64decode(parts[3])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode("utf-8"), "sha1"), digest)
