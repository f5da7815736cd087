"""Parse the head of an answer. Pure.

httptools (llhttp) parses it strictly (RFC 9112). What it refuses is parsed again leniently, as curl, wget and browsers
do: bare line feeds, folded lines, a space before the colon, invalid bytes in names and values, a status line without
a reason.
"""

import re
from dataclasses import dataclass

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from datamover.bounds.servers import LONGEST_HEAD_FIELD
from datamover.protocols.http.client.fields import Fields, MalformedHttp, told

END = re.compile(rb"\n\r{0,2}\n")
"""The end of a head."""
BEGINNING = b"HTTP"
FRAMING = frozenset({b"connection", b"content-encoding", b"content-length", b"content-range", b"transfer-encoding"})
"""Names whose values say what the body is: an answer without them would be read as another one, so it is refused."""
COOKIES = b"set-cookie"
"""Each of its values counts for itself; ``http.cookies`` has its own bounds."""

_LOOKED_AT = 80
_STATUS_LINE = re.compile(rb"HTTP(?:/([0-9]{1,2}(?:\.[0-9]{1,2})?))?[ \t]+([0-9]{3})(?![0-9])", re.IGNORECASE)
# RFC 9112, section 5.2, and RFC 9110, section 5.5: folds, and control characters in values, are read as spaces.
_CONTROLS = bytes(0x20 if byte in b"\x7f" or (byte < 0x20 and byte not in b"\t\n") else byte for byte in range(256))
_FOLD = re.compile(rb"\n[ \t]+")


@dataclass(frozen=True, slots=True)
class RawHead:
    """A status line and fields."""

    status: int
    version: str
    """"1.1", "1.0" or what else the server says."""
    fields: Fields
    strict: bool
    """It conforms to RFC 9112."""


def read_head(head: bytes) -> RawHead:
    """Parse a head, including the empty line that ends it. Raises MalformedHttp."""
    read = _read_strictly(head) or _read_leniently(head)
    if len(head) > LONGEST_HEAD_FIELD:
        _leave_out_long(read.fields)
    if read.status == 101:
        raise MalformedHttp("the answer switches to another protocol (101), which was not asked for")
    if read.status < 100:
        raise MalformedHttp(f"the answer's status {read.status:03} is not a valid one")
    return read


def _leave_out_long(fields: Fields) -> None:
    sizes = {name: sum(map(len, values)) for name, values in fields.items() if name != COOKIES}
    for name, size in sizes.items():
        if size <= LONGEST_HEAD_FIELD:
            continue
        if name in FRAMING:
            known = name.decode("ascii").title()
            raise MalformedHttp(f"the answer's header {known!r} has {size} bytes, more than {LONGEST_HEAD_FIELD}")
        del fields[name]


def not_http(data: bytes) -> MalformedHttp:
    """Return the error for an answer that begins with ``data`` and is not HTTP."""
    first = re.split(rb"[\r\n]", data[:_LOOKED_AT], maxsplit=1)[0]
    return MalformedHttp(f"the answer is not HTTP/1.1: it begins with {told(first)}")


def _read_strictly(head: bytes) -> RawHead | None:
    events = _Events()
    parser = HttpResponseParser(events)
    try:
        parser.feed_data(head)
    except (HttpParserError, HttpParserUpgrade):
        return None
    version: str = parser.get_http_version()
    if not events.headed or not version.startswith("1."):
        return None
    return RawHead(parser.get_status_code(), version, events.fields, strict=True)


def _read_leniently(head: bytes) -> RawHead:
    start, *lines = _FOLD.sub(b" ", head.replace(b"\r\n", b"\n").translate(_CONTROLS)).split(b"\n")
    status = _STATUS_LINE.match(start)
    if status is None:
        raise not_http(head)
    fields: Fields = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        name = name.strip().lower()
        if colon and name:
            fields.setdefault(name, []).append(value.strip())
    version = (status[1] or b"1.0").decode("ascii")
    return RawHead(int(status[2]), version, fields, strict=False)


class _Events:
    """Collects what httptools calls back."""

    def __init__(self) -> None:
        self.fields: Fields = {}
        self.headed = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.setdefault(name.lower(), []).append(value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        self.headed = True
