"""Parse one answer: its head, and where its body ends. Pure.

A body with a length is counted and returned as received, without copying or parsing it.
"""

from datamover.bounds.servers import LARGEST_HEAD, LONGEST_EMPTY_LINES, MOST_HEAD_LINES, MOST_INFORMATIONAL
from datamover.protocols.http.client.chunks import ChunkParser
from datamover.protocols.http.client.fields import Fields
from datamover.protocols.http.client.framing import framing_of
from datamover.protocols.http.client.heads import BEGINNING, END, RawHead, not_http, read_head

_WITHOUT_BODY = frozenset({204, 304})


class HeadTooLarge(Exception):
    """The server sent more before the body than a head may have: bytes, lines, or informational answers."""


class AnswerReader:
    """One answer, fed as its bytes arrive."""

    def __init__(self, method: bytes) -> None:
        """Expect the answer to a request with this method."""
        self.begun = False
        """Bytes have arrived."""
        self.continued = False
        """The server asked for the body (100 Continue)."""
        self.answered = False
        """The head is here."""
        self.status = 0
        self.fields: Fields = {}
        self.length: int | None = None
        """Bytes of the body, for HEAD those that a GET would get; None if the server does not say."""
        self.complete = False
        """The body has arrived whole."""
        self.excess = False
        """More bytes came than belong to the answer."""
        self.broken = ""
        """Why the chunks are malformed; "" if they are not."""
        self.beyond = False
        """They are malformed for a size that no file has."""
        self.steps = 0
        """Of the chunks that were fed last; see ``ChunkParser``."""
        self._bodiless = method == b"HEAD"
        self._head = bytearray()
        self._passed = self._lines = self._informational = 0
        self._chunks: ChunkParser | None = None
        self._between = 0
        self._left: int | None = None
        self._kept_alive = False
        self._plain = True
        """Its framing is unambiguous."""

    def feed(self, data: bytes) -> bytes:
        """Take received bytes; return those of the body. Raises MalformedHttp and HeadTooLarge for a head."""
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
        """Whether the connection may serve another request (RFC 9112 9.3)."""
        plain = self._plain and (self._chunks is None or self._chunks.plain)
        return self._kept_alive and plain and self.complete and not self.excess

    @property
    def until_close(self) -> bool:
        """Whether the body ends with the connection."""
        return self.answered and self._chunks is None and self._left is None

    def _feed_head(self, data: bytes) -> bytes | None:
        """Take more of a head; return the bytes after it, None if it is incomplete."""
        if not self._head and data[:1] in (b"\r", b"\n"):
            stripped = data.lstrip(b"\r\n")
            self._passed += len(data) - len(stripped)
            self._plain = False
            if self._passed <= LONGEST_EMPTY_LINES:
                data = stripped
        head, searched = (self._head, max(0, len(self._head) - 3)) if self._head else (data, 0)
        if self._head:
            self._head += data
        found = END.search(head, searched)
        end = found.end() if found else len(head)
        if head[: len(BEGINNING)].upper() != BEGINNING[: len(head)]:
            raise not_http(bytes(head))
        if self._passed + end > LARGEST_HEAD:
            raise HeadTooLarge
        if found is None:
            if not self._head:
                self._head += data
            return None
        self._passed += end
        self._lines += head.count(b"\n", 0, end)
        if self._lines > MOST_HEAD_LINES:
            raise HeadTooLarge
        rest = data[len(data) - (len(head) - end) :]
        self._take_head(read_head(bytes(head[:end])))
        self._head = bytearray()
        return rest

    def _take_head(self, head: RawHead) -> None:
        self._plain = self._plain and head.strict
        if head.status < 200:
            self._informational += 1
            if self._informational > MOST_INFORMATIONAL:
                raise HeadTooLarge
            self.continued = self.continued or head.status == 100
            return
        self.answered, self.status, self.fields = True, head.status, head.fields
        framing = framing_of(head.fields)
        self.length = framing.length
        options = {part.strip().lower() for value in head.fields.get(b"connection", ()) for part in value.split(b",")}
        persistent = head.version == "1.1" or (b"keep-alive" in options and not framing.chunked)
        self._plain = self._plain and framing.plain
        self._kept_alive = persistent and b"close" not in options
        if self._bodiless or head.status in _WITHOUT_BODY:
            self._left = 0
        elif framing.chunked:
            self._chunks = ChunkParser()
        else:
            self._left = framing.length

    def _feed_chunks(self, chunks: ChunkParser, data: bytes) -> bytes:
        body = chunks.feed(data)
        self._between = 0 if body else self._between + len(data)
        self.broken, self.beyond, self.steps = chunks.broken, chunks.beyond, chunks.steps
        if self._between > LARGEST_HEAD and not chunks.complete:
            self.broken = f"more than {LARGEST_HEAD} bytes came between two pieces of chunks"
        self.complete, self.excess = chunks.complete, chunks.excess
        return body
