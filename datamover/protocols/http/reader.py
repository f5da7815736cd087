"""The bytes of one answer, read strictly: its head, then where its body ends. Pure: no connection is seen here.

httptools (llhttp) reads the head and chunks. A body whose length was announced is counted and handed on as it came,
neither copied nor looked at.
"""

import re

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

LARGEST_HEAD = 2**20
"""Bytes before the body, of the answers that only announce it too; and bytes between two pieces of chunks."""

Fields = dict[bytes, list[bytes]]
"""Header fields: names in lower case, the values of each in the order they came."""

_START = b"HTTP/1."
_END = re.compile(rb"\n\r?\n")
_WITHOUT_BODY = frozenset({204, 304})


class Malformed(Exception):
    """What came is not HTTP/1.1, or contradicts itself about its length."""


class HeadTooLarge(Exception):
    """The server sent more than ``LARGEST_HEAD`` bytes before the body."""


class AnswerReader:
    """One answer, as its bytes come in."""

    def __init__(self, method: bytes) -> None:
        """Expect the answer to a request with this method."""
        self.begun = False
        """Something came."""
        self.answered = False
        """The head is here."""
        self.status = 0
        self.fields: Fields = {}
        self.length: int | None = None
        """Bytes of the body, for HEAD of the one that a GET would get; None where the server does not say."""
        self.complete = False
        """The body is here to its end."""
        self.excess = False
        """More came than belongs to the answer."""
        self.broken = False
        """What should have been chunks is none: nothing more can be read."""
        self._bodiless = method == b"HEAD"
        self._head = bytearray()
        self._passed = 0
        self._events = _Events()
        self._chunks: HttpResponseParser | None = None
        self._between = 0
        self._left: int | None = None
        self._kept_alive = False

    def feed(self, data: bytes) -> bytes:
        """Take in what came; return what of it is the body's. Raises Malformed and HeadTooLarge for a head."""
        self.begun = True
        while not self.answered:
            rest = self._feed_head(data)
            if rest is None:
                return b""
            data = rest
        if self._chunks is not None:
            return self._feed_chunks(self._chunks, data)
        if self._left is None:
            return data
        if len(data) > self._left:
            self.excess = True
            data = data[: self._left]
        self._left -= len(data)
        self.complete = not self._left
        return data

    @property
    def reusable(self) -> bool:
        """Whether the connection may serve another request now (RFC 9112 9.3)."""
        return self._kept_alive and self.complete and not self.excess

    @property
    def until_close(self) -> bool:
        """Whether the body ends with the connection."""
        return self.answered and self._chunks is None and self._left is None

    def _feed_head(self, data: bytes) -> bytes | None:
        """Take in more of a head; return what came after it, None where its end did not come yet."""
        head, searched = (self._head, max(0, len(self._head) - 2)) if self._head else (data, 0)
        if self._head:
            self._head += data
        found = _END.search(head, searched)
        end = found.end() if found else len(head)
        if not head.startswith(_START[: len(head)]):
            raise Malformed
        if self._passed + end > LARGEST_HEAD:
            raise HeadTooLarge
        if found is None:
            if not self._head:
                self._head += data
            return None
        self._passed += end
        rest = data[len(data) - (len(head) - end) :]
        self._read_head(bytes(head[:end]))
        self._head = bytearray()
        return rest

    def _read_head(self, head: bytes) -> None:
        events = self._events = _Events()
        parser = HttpResponseParser(events)
        _parse(parser, head)
        status = parser.get_status_code()
        if not events.headed or status < 100 or status == 101:
            raise Malformed
        if status < 200:
            return
        self.answered, self.status, self.fields = True, status, events.fields
        options = {part.strip().lower() for value in self.fields.get(b"connection", ()) for part in value.split(b",")}
        self._kept_alive = b"close" not in options and (parser.get_http_version() == "1.1" or b"keep-alive" in options)
        codings = self.fields.get(b"transfer-encoding")
        lengths = self.fields.get(b"content-length")
        if lengths is not None:
            self.length = int(lengths[0])
        if self._bodiless or status in _WITHOUT_BODY:
            self._left = 0
        elif codings is None:
            self._left = self.length
        elif len(codings) == 1 and codings[0].lower() == b"chunked":
            self._chunks = parser
        else:
            raise Malformed

    def _feed_chunks(self, parser: HttpResponseParser, data: bytes) -> bytes:
        events = self._events
        try:
            _parse(parser, data)
        except Malformed:
            self.broken, self.excess = not events.whole, events.whole
        body = b"".join(events.pieces)
        events.pieces.clear()
        self._between = 0 if body else self._between + len(data)
        self.broken = self.broken or self._between > LARGEST_HEAD
        self.complete = events.whole
        self.excess = self.excess or events.messages > 1
        return body


def _parse(parser: HttpResponseParser, data: bytes) -> None:
    try:
        parser.feed_data(data)
    except (HttpParserError, HttpParserUpgrade):
        raise Malformed from None


class _Events:
    """What httptools tells of an answer. Trailers, and whatever follows the answer, are passed over."""

    def __init__(self) -> None:
        self.messages = 0
        self.fields: Fields = {}
        self.headed = False
        self.pieces: list[bytes] = []
        self.whole = False

    def on_message_begin(self) -> None:
        self.messages += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.headed:
            self.fields.setdefault(name.lower(), []).append(value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        self.headed = True

    def on_body(self, body: bytes) -> None:
        if not self.whole:
            self.pieces.append(body)

    def on_message_complete(self) -> None:
        self.whole = True
