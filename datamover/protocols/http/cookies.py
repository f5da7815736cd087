"""The cookies of one file, or of one request.

A redirect may set a cookie and lead back, as single sign-on does: without the cookie the redirects never end. A jar
holds the cookies of one file's redirects and ranges and is shared with nothing else. A cookie is sent only to the
scheme, host and port that set it, whatever its Domain says (``http.cookiejar``, treq's, ignores the port and the
scheme). Otherwise RFC 6265 holds, as browsers implement it.
"""

import re
import time
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from datamover.bounds.servers import (
    LARGEST_COOKIE,
    LARGEST_COOKIE_HEADER,
    LONGEST_COOKIE_LIFE,
    MOST_COOKIES,
    MOST_COOKIES_READ,
)
from datamover.protocols.http.answers import Head
from datamover.protocols.http.dates import http_date
from datamover.web.url import WebUrl

_TOLD = 40
_MOST_TOLD = 5
_UNSENDABLE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_SECONDS = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class _Key:
    """What identifies a cookie."""

    origin: tuple[str, str, int]
    path: str
    name: bytes


@dataclass(frozen=True, slots=True)
class _Cookie:
    value: bytes
    until: float | None
    """When it expires, by the jar's clock; None: never."""


class Jar:
    """Keeps cookies and says which to send."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._cookies: dict[_Key, _Cookie] = {}
        """The oldest first."""
        self._set: dict[bytes, str] = {}
        """Every cookie name that was set, stored or not -> the host that set it last."""

    def take(self, head: Head) -> None:
        """Store the cookies that an answer sets, and remove those that it expires."""
        for raw in head.fields.get(b"set-cookie", ())[-MOST_COOKIES_READ:]:
            self._take(raw, head)

    def header(self, url: WebUrl) -> str:
        """Return the Cookie header for a request to ``url``, "" for none (RFC 6265, section 5.4).

        Bytes that are not UTF-8 are lone surrogates in it.
        """
        if not self._cookies:
            return ""
        now = self._clock.seconds()
        mine = [
            (key, cookie)
            for key, cookie in self._cookies.items()
            if key.origin == url.origin and _covers(key.path, url.path) and (cookie.until is None or now < cookie.until)
        ]
        mine.sort(key=lambda entry: -len(entry[0].path))
        sent, size = [], 0
        for key, cookie in mine:
            pair = b"%b=%b" % (key.name, cookie.value) if key.name else cookie.value
            size += len(pair) + 2
            if size > LARGEST_COOKIE_HEADER:
                break
            sent.append(pair)
        return b"; ".join(sent).decode("utf-8", "surrogateescape")

    def withheld(self, url: WebUrl) -> str:
        """Return a clause that names the cookies that were set and are not sent to ``url``; "" for none."""
        sent = {pair.partition("=")[0] for pair in self.header(url).split("; ")}
        left = [
            f"{name.decode('ascii', 'backslashreplace')[:_TOLD]!r} of {host}"
            for name, host in self._set.items()
            if name.decode("utf-8", "surrogateescape") not in sent
        ]
        return f"cookies that were set on the way do not go there: {', '.join(left[:_MOST_TOLD])}" if left else ""

    def _take(self, raw: bytes, head: Head) -> None:
        pair, *rest = raw.split(b";")
        name, equals, value = (part.strip(b" \t") for part in pair.partition(b"="))
        if not equals:
            name, value = b"", name
        if not name + value or len(name + value) > LARGEST_COOKIE or _UNSENDABLE.search(pair):
            return
        if len(self._set) < MOST_COOKIES:
            self._set[name] = head.url.host
        attributes = {}
        for attribute in rest:
            key, _, text = attribute.decode("latin-1").partition("=")
            attributes[key.strip().lower()] = text.strip()
        if not _acceptable(name, attributes, head.url):
            return
        path = attributes.get("path", "")
        if not path.startswith("/"):
            path = head.url.path.rpartition("/")[0] or "/"
        kept = _Key(head.url.origin, path, name)
        life = _life(attributes, head)
        if life is not None and life <= 0:
            self._cookies.pop(kept, None)
            return
        self._cookies[kept] = _Cookie(value, None if life is None else self._clock.seconds() + life)
        if len(self._cookies) > MOST_COOKIES:
            del self._cookies[next(iter(self._cookies))]


def _acceptable(name: bytes, attributes: dict[str, str], url: WebUrl) -> bool:
    """Tell whether a server may set the cookie: not for a foreign domain, and a secure one only over TLS."""
    domain = attributes.get("domain", "").lower().removeprefix(".")
    if domain and url.host != domain and (url.address is not None or not url.host.endswith(f".{domain}")):
        return False
    secure = "secure" in attributes
    if secure and url.scheme != "https":
        return False
    prefix = name.lower()
    if prefix.startswith(b"__host-"):
        return secure and not domain and attributes.get("path") == "/"
    return secure or not prefix.startswith(b"__secure-")


def _life(attributes: dict[str, str], head: Head) -> float | None:
    """Return the seconds until a cookie expires, None if it never does (RFC 6265, section 5.3)."""
    age = attributes.get("max-age", "")
    if _SECONDS.fullmatch(age):
        return min(int(age), LONGEST_COOKIE_LIFE)
    end, sent = http_date(attributes.get("expires")), http_date(head.header("Date"))
    if end is None:
        return None
    return min(end - (time.time() if sent is None else sent), LONGEST_COOKIE_LIFE)


def _covers(path: str, asked: str) -> bool:
    """Tell whether a cookie for ``path`` is sent to the path ``asked`` (RFC 6265, section 5.1.4)."""
    return asked == path or (asked.startswith(path) and (path.endswith("/") or asked[len(path)] == "/"))
