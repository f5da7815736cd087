"""http and https URLs in canonical form.

Access rules are bypassed where one reading of a URL is checked and another fetched. So whatever is checked, fetched or
compared is a ``WebUrl``: its host in ASCII, its address spelt in full, its path without dot segments.
"""

import re
import socket
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import quote, urlsplit

import idna

from datamover.bounds.calls import LONGEST_QUOTED_URL
from datamover.errors import InvalidRequest, UnsupportedScheme
from datamover.text.quoting import cut

DEFAULT_PORTS = {"http": 80, "https": 443}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_REST = re.compile(r"//([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.DOTALL)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]*))?")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_UNSENDABLE = re.compile(r"[\0-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and lone surrogates."""
_HOST_ENDS = re.compile(r"//[^/?#]*[/?#]")
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED_DOT = re.compile(r"%2e", re.IGNORECASE)
_DOTS = re.compile(r"/(?:\.|%2e){1,2}(?:/|\Z)", re.IGNORECASE)
_PLAIN = re.compile(r"[/:@!$&'()*+,;=~A-Za-z0-9_.-]*")
"""Characters that never need encoding."""
_PATH_SAFE = "/:@!$&'()*+,;=~%"
_QUERY_SAFE = _PATH_SAFE + "?"
_LONGEST_HOST = 253
_HOSTS = 1024
"""Hosts that are cached."""


def shown(url: str) -> str:
    """Return a URL for messages and logs: without login and fragment, ``***`` for every value of its query.

    Never raises: text that is not a URL is replaced by a phrase that says so. A long one is cut first.
    """
    if len(url) > LONGEST_QUOTED_URL:
        beginning = url[:LONGEST_QUOTED_URL]
        # If the host does not end in it, it may hold the beginning of a login.
        return f"{shown(beginning)}…" if _HOST_ENDS.search(beginning) else "a long URL"
    try:
        parts = urlsplit(_UNSENDABLE.sub(lambda match: quote(match[0]), url))
        parts.port  # noqa: B018
    except (ValueError, UnicodeError):
        return "a URL that cannot be read"
    if parts.netloc.count("@") > 1 or "\\" in parts.netloc:
        return f"{parts.scheme}://…"
    host = parts.netloc.rpartition("@")[2]
    start = f"{parts.scheme}:" if parts.scheme else ""
    slashes = "//" if parts.netloc or url.partition(":")[2].startswith("//") else ""
    return f"{start}{slashes}{host}{parts.path}{_masked(parts.query)}"


def _masked(query: str | None) -> str:
    """Return a query with its question mark, its values masked; "" for none."""
    if not query:
        return ""
    fields = (field.partition("=") for field in query.split("&"))
    return "?" + "&".join(f"{name}=***" if equals else "***" for name, equals, _ in fields)


def canonical_host(host: str) -> str:
    """Return a host name in lower-case ASCII without its final dot, or an address spelt in full, without brackets.

    Everything that C libraries read as an IPv4 address ("2130706433", "0x7f.1") is one. Raises ValueError.
    """
    if len(host) > _LONGEST_HOST + 1:  # A final dot does not count.
        raise ValueError("not a host name")
    return _canonical_host(host)


@lru_cache(_HOSTS)
def _canonical_host(host: str) -> str:
    if host.startswith("["):
        return str(IPv6Address(host[1:-1]))
    if not host.isascii():
        host = idna.encode(host, uts46=True).decode("ascii")
    host = host.lower().removesuffix(".")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(IPv4Address(socket.inet_aton(host)))
        except OSError:
            raise ValueError("not an IPv4 address") from None
    if len(host) > _LONGEST_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("not a host name")
    return host


def without_dots(path: str) -> str:
    """Return an absolute path with its "." and ".." segments, encoded ones too, taken out (RFC 3986 5.2.4)."""
    if path.startswith("/") and not _DOTS.search(path):
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        plain = _ENCODED_DOT.sub(".", segment)
        if plain == "..":
            del kept[-1:]
        if plain not in (".", ".."):
            kept.append(segment)
        elif last:
            kept.append("")
    return "/" + "/".join(kept)


@dataclass(frozen=True, slots=True)
class WebUrl:
    """An absolute http or https URL in canonical form, without login and fragment."""

    scheme: str
    host: str
    """Lower-case ASCII, or an address without brackets."""
    port: int
    path: str
    """Percent-encoded, begins with "/"."""
    query: str | None = field(repr=False)
    """Percent-encoded; may hold a signature."""

    @classmethod
    def parse(cls, text: str) -> "WebUrl":
        """Parse a URL or IRI; encodes what needs percent-encoding, and keeps existing encodings.

        Raises UnsupportedScheme and InvalidRequest; no message holds a login or a query's value.
        """
        text = text.strip(" ")
        if _UNSENDABLE.search(text):
            raise InvalidRequest("the source URL holds control characters: percent-encode them")
        scheme = _SCHEME.match(text)
        if scheme is None:
            raise InvalidRequest("the source is not an absolute URL: expected one such as https://example.org/file.csv")
        if scheme[1].lower() not in DEFAULT_PORTS:
            raise UnsupportedScheme(f"cannot read from {scheme[1]!r} URLs: expected http or https")
        rest = _REST.fullmatch(text, scheme.end())
        if rest is None or not rest[1]:
            raise InvalidRequest("the source URL names no host: expected one such as https://example.org/file.csv")
        if "@" in rest[1]:
            raise InvalidRequest(
                "the source URL holds a user name or password: leave them out, and have the administrator "
                "add [[sources.credentials]] for the site"
            )
        authority = _AUTHORITY.fullmatch(rest[1])
        try:
            host = canonical_host(authority[1] if authority else "")
            port = int(authority[2]) if authority and authority[2] else DEFAULT_PORTS[scheme[1].lower()]
        except ValueError:
            raise InvalidRequest(f"the host of the source cannot be read: {shown(text)}") from None
        if not 0 < port < 65536:
            raise InvalidRequest(f"the port in the source URL {shown(text)} is not one: expected 1 to 65535")
        path = without_dots(_quoted(rest[2] or "/", _PATH_SAFE))
        query = None if rest[3] is None else _quoted(rest[3], _QUERY_SAFE)
        return cls(scheme[1].lower(), host, port, path, query)

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The host as an address, None if it is a name."""
        return _address(self.host)

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port (RFC 6454)."""
        return self.scheme, self.host, self.port

    @property
    def text(self) -> str:
        """The whole URL; may hold a signature. In messages use ``shown`` or ``told``."""
        return self._start if self.query is None else f"{self._start}?{self.query}"

    @property
    def shown(self) -> str:
        """The URL with masked query values; see the function ``shown``."""
        return self._start + _masked(self.query)

    @property
    def told(self) -> str:
        """Like ``shown``, cut to the length for messages."""
        return cut(self.shown, LONGEST_QUOTED_URL)

    @property
    def _start(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    def join(self, reference: str) -> "WebUrl":
        """Resolve ``reference`` against this URL (RFC 3986 5.2); raises like ``parse``."""
        reference = reference.strip(" ").partition("#")[0]
        scheme = _SCHEME.match(reference)
        if scheme and scheme[1].lower() == self.scheme and not reference.startswith("//", scheme.end()):
            # Without a host it is relative (RFC 3986, section 5.2.2, and browsers).
            reference, scheme = reference[scheme.end() :], None
        if scheme:
            return self.parse(reference)
        if reference.startswith("//"):
            return self.parse(f"{self.scheme}:{reference}")
        host, directory = f"{self.scheme}://{self.authority}", self.path.rpartition("/")[0]
        if reference.startswith("/"):
            return self.parse(host + reference)
        if reference.startswith("?"):
            return self.parse(f"{host}{self.path}{reference}")
        return self.parse(f"{host}{directory}/{reference}") if reference else self


def _quoted(text: str, safe: str) -> str:
    return text if _PLAIN.fullmatch(text) else quote(_LONE_PERCENT.sub("%25", text), safe=safe)


@lru_cache(_HOSTS)
def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return a canonical host as an address, None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None
