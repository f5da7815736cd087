"""What a server's status and headers mean. Pure: nothing is read from a connection here.

The head of an answer gives a file's size, its name, its identity (which shows a change) and its published digests.
"""

import base64
import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from datamover.bounds.servers import LONGEST_ETAG, LONGEST_RETRY_AFTER
from datamover.errors import (
    AuthenticationFailed,
    ConnectionLost,
    DataMoverError,
    RateLimited,
    Scope,
    ServerError,
    SourceForbidden,
    SourceNotFound,
)
from datamover.protocols.base import Inspection
from datamover.protocols.http.client.codings import codings_of
from datamover.protocols.http.client.fields import Fields, told
from datamover.protocols.http.dates import http_date
from datamover.protocols.http.dispositions import disposition_name
from datamover.web.amounts import movable
from datamover.web.file_names import path_name
from datamover.web.url import WebUrl

REDIRECTS = frozenset({301, 302, 303, 307, 308})
WHOLE = frozenset({200, 203})
PARTIAL = 206
READ = WHOLE | {PARTIAL}
"""Status of the answers to GET that hold a file, or a part of it."""
UNSATISFIABLE = 416

BACK = (2**20, 16 * 2**20)
"""How many bytes before the wanted one the repeated requests begin; servers' blocks are seldom larger."""

_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
_CONTENT_RANGE = re.compile(r"(?:bytes)?[\s=:]*(\d{1,40})\s*-\s*(\d{1,40})\s*/\s*(\d{1,40}|\*)", re.IGNORECASE)
_STRUCTURED_DIGEST = re.compile(r"(sha-256|sha-512)\s*=\s*:([A-Za-z0-9+/=]+):", re.IGNORECASE)
_INSTANCE_DIGEST = re.compile(r"(?<![A-Za-z0-9-])([A-Za-z0-9-]{1,20})=([A-Za-z0-9+/=]+)")
_DIGESTS = frozenset({b"repr-digest", b"content-digest", b"digest", b"content-md5"})
_ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512", "sha": "sha1", "md5": "md5"}


@dataclass(frozen=True, slots=True)
class Head:
    """The status and headers of an answer."""

    status: int
    fields: Fields
    length: int | None
    """Bytes of the body that a GET gets, None where the server does not say."""
    asked: WebUrl
    """The URL that was requested."""
    url: WebUrl
    """The URL that answered, after redirects."""

    def header(self, name: str) -> str | None:
        values = self.fields.get(name.lower().encode("ascii"))
        return values[-1].decode("latin-1") if values else None

    def headers_of(self, name: str) -> str:
        """Return all values of a header that is a list, joined by commas; "" if it is missing."""
        values = self.fields.get(name.lower().encode("ascii"))
        return b", ".join(values).decode("latin-1") if values else ""

    @property
    def name(self) -> str:
        """The file's name: from Content-Disposition, else from the URL that answered, else from the one requested."""
        for value in self.fields.get(b"content-disposition", ()):
            if name := disposition_name(value):
                return name
        return path_name(self.url.path) or path_name(self.asked.path)

    @property
    def codings(self) -> tuple[str, ...]:
        """The codings to undo to get the file, the one applied last at the end; () if the body is the file."""
        if b"content-encoding" not in self.fields and b"transfer-encoding" not in self.fields:
            return ()
        return codings_of(self.fields, self.name)

    @property
    def answered(self) -> str:
        """The URL and the status in words: the standard phrase, since the server's may hold a secret."""
        return f"{self.url.told} answered {in_words(self.status)}"


@dataclass(frozen=True, slots=True)
class ContentRange:
    """Which bytes a 206 holds: ``first`` to ``last``, both included, of ``total``."""

    first: int
    last: int
    total: int | None

    def begins(self, wanted: "ContentRange") -> bool:
        """Tell whether this has the first byte of a range that was asked for, if not all of it."""
        return self.total == wanted.total and self.holds(wanted.first)

    def holds(self, offset: int) -> bool:
        return self.first <= offset <= self.last


def starts(first: int) -> Iterator[int]:
    """Yield where to begin the request of a range, one after the other until an answer holds the byte ``first``.

    Some servers round up to whole blocks. What an answer has before ``first`` is dropped.
    """
    yield first
    for back in BACK:
        if first:
            yield max(0, first - back)
        if first <= back:
            return


def content_range(head: Head) -> ContentRange | None:
    """Return the range in Content-Range, None if it is missing or contradicts itself or the length (RFC 9110 14.4)."""
    match = _CONTENT_RANGE.fullmatch((head.header("Content-Range") or "").strip())
    if match is None:
        return None
    found = ContentRange(int(match[1]), int(match[2]), None if match[3] == "*" else int(match[3]))
    if found.last < found.first or (found.total is not None and found.last >= found.total):
        return None
    if head.length is not None and head.length != found.last - found.first + 1:
        return None
    return found


def tells_total(head: Head, total: int) -> bool:
    """Tell whether the refusal of a range says that the file has so many bytes (RFC 9110 15.5.17)."""
    return head.status == UNSATISFIABLE and (head.header("Content-Range") or "").strip().lower() == f"bytes */{total}"


def elsewhere(what: str, first: int, given: int, scope: Scope) -> ServerError:
    """Return the error for a server whose ranges do not hold the first byte that was asked for."""
    return ServerError(
        f"{what}: the server answers a request for the bytes from {first} on with other bytes of the file, at last "
        f"with those from {given} on (Content-Range): have that changed; the next attempt reads it over one connection",
        scope=scope,
    )


def check_announced(head: Head) -> None:
    """Raise ServerError if the length or the total of Content-Range is more than a file can have."""
    part = content_range(head) if head.status == PARTIAL else None
    for size in (head.length, part.total if part else None):
        movable(size, lambda: head.url.told)


def ranges_given(head: Head) -> bool:
    """Tell whether the server serves ranges of the file: it sent one, or Accept-Ranges says so (RFC 9110 14.3)."""
    return head.status == PARTIAL or "bytes" in re.split(r"[\s,]+", head.headers_of("Accept-Ranges").lower())


def holds_whole(head: Head) -> bool:
    """Tell whether the answer to a request without a Range holds the whole file, with status 200, 203 or 206."""
    if head.status != PARTIAL:
        return head.status in WHOLE
    part = content_range(head)
    return part is not None and (part.first, part.last + 1) == (0, part.total)


def inspection_of(head: Head) -> Inspection:
    """Return what a 200 or 206, to GET or HEAD, says about the file.

    For a coded body, length, tag and digests are those of the coded bytes, so size, identity and digests stay unknown.
    """
    modified = http_date(head.header("Last-Modified"))
    if head.codings:
        return Inspection(name=head.name, modified=modified)
    size = size_of(head)
    return Inspection(head.name, size, _identity(head, size), modified, _digests(head))


def size_of(head: Head) -> int | None:
    """Return the bytes of the whole file, as coded, of which an answer holds all or a part; None if it does not say."""
    if head.status != PARTIAL:
        return head.length
    found = content_range(head)
    return found.total if found else None


def strong_tag(head: Head) -> str | None:
    """Return the ETag if it is a strong one (RFC 9110 8.8.1)."""
    tag = _tag(head)
    return tag if _STRONG_TAG.fullmatch(tag) else None


def _tag(head: Head) -> str:
    tag = (head.header("ETag") or "").strip()
    return tag if len(tag) <= LONGEST_ETAG else ""


def is_settled(head: Head) -> bool:
    """Tell whether a change after the answer gets another Last-Modified.

    A file that changed in the very second in which it was sent may change in it once more (RFC 9110 8.8.2.2).
    """
    modified, sent = http_date(head.header("Last-Modified")), http_date(head.header("Date"))
    return modified is not None and sent is not None and sent - modified >= 1


def _identity(head: Head, size: int | None) -> str | None:
    if tag := strong_tag(head):
        return f"tag {tag}"
    tag = _tag(head)
    if size is None or not is_settled(head) or not tag.isprintable():
        return None
    changed = (head.header("Last-Modified") or "").strip()
    return f"weak {tag} {changed} {size}" if tag else f"date {changed} {size}"


def if_range(identity: str) -> str | None:
    """Return the validator to send as If-Range, None if the identity has no strong one (RFC 9110 13.1.5)."""
    kind, _, rest = identity.partition(" ")
    if kind == "tag":
        return rest
    return rest.rpartition(" ")[0] if kind == "date" else None


def _digests(head: Head) -> Mapping[str, str]:
    """Return the digests of the whole file, hex by algorithm: RFC 9530's, else RFC 3230's, else Content-MD5."""
    if _DIGESTS.isdisjoint(head.fields):
        return {}
    found: list[tuple[str, str]] = _STRUCTURED_DIGEST.findall(head.headers_of("Repr-Digest"))
    if head.status != PARTIAL:
        found += _STRUCTURED_DIGEST.findall(head.headers_of("Content-Digest"))
    found += _INSTANCE_DIGEST.findall(head.headers_of("Digest"))
    if head.status != PARTIAL:
        found += [("md5", (head.header("Content-MD5") or "").strip())]
    digests: dict[str, str] = {}
    for name, value in found:
        algorithm = _ALGORITHMS.get(name.lower())
        if algorithm is None or algorithm in digests:
            continue
        try:
            raw = base64.b64decode(value, validate=True)
        except ValueError:  # It is no base64, or not even ASCII.
            continue
        if len(raw) == hashlib.new(algorithm, usedforsecurity=False).digest_size:
            digests[algorithm] = raw.hex()
    return digests


def failure_of(head: Head) -> DataMoverError:
    """Return the error for an answer that does not hold the whole file."""
    status = head.status
    if status in (404, 410):
        return SourceNotFound(f"there is no file at the source: {head.answered}")
    if status in (401, 403):
        return SourceForbidden(f"the source may not be read: {head.answered}")
    if status == 407:
        return AuthenticationFailed(f"the HTTP proxy asks for a login: {head.answered}", scope=Scope.SOURCE)
    if status == 408:
        return ConnectionLost(f"the request took too long for the server: {head.answered}", scope=Scope.SOURCE)
    if status == 429 or (status == 503 and head.header("Retry-After") is not None):
        pause = retry_after(head)
        told = "" if pause is None else f", and asks to come again in {_pause(pause)}"
        return RateLimited(f"{head.answered}{told}", scope=Scope.SOURCE, retry_after=pause)
    if 400 <= status < 500 and status != 425:
        return SourceForbidden(f"the source refused the request: {head.answered}")
    if status >= 500 or status == 425:
        return ServerError(head.answered, scope=Scope.SOURCE)
    if status in REDIRECTS:
        return ServerError(f"{head.answered} without a Location, which holds no file", scope=Scope.SOURCE)
    if status == PARTIAL:
        return ServerError(f"{head.answered} though no part was asked for: {_part_of(head)}", scope=Scope.SOURCE)
    return ServerError(f"{head.answered}, which holds no file", scope=Scope.SOURCE)


def _part_of(head: Head) -> str:
    """Return a clause that says which part of a file a 206 holds."""
    part, values = content_range(head), head.fields.get(b"content-range")
    if part is not None:
        total = "a length that it does not tell" if part.total is None else str(part.total)
        return f"it holds the bytes {part.first} to {part.last} of {total}, not the whole file"
    if values:
        return f"its header 'Content-Range' is {told(values[-1])}, which does not describe the part that was sent"
    return "it has no header 'Content-Range' that tells which"


def retry_after(head: Head) -> float | None:
    """Return the seconds that Retry-After asks to wait, from a number or a date; else None (RFC 9110 10.2.3)."""
    text = (head.header("Retry-After") or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_RETRY_AFTER)
    moment = http_date(text)
    if moment is None:
        return None
    now = http_date(head.header("Date"))
    return min(max(0.0, moment - (time.time() if now is None else now)), LONGEST_RETRY_AFTER)


def _pause(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < LONGEST_RETRY_AFTER else "a year or more"


def in_words(status: int) -> str:
    """Return a status with its standard phrase, if it has one, such as "404 Not Found"."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
