"""One connection of a client. What it sends is bounded in size and time, and a refusal names the bound.

Slow clients are dropped: a request's head has a time limit and its body a minimum rate. After a refusal the rest of the
request is read and thrown away for a moment, so that the client gets the answer and no broken pipe.

Received bytes are parsed when the connection has its turn, a piece at a time: at most one request, and none while the
answer to the previous one waits to be sent.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from datamover.api.http.chunks import ChunkedDecoder, MalformedChunk
from datamover.api.http.closed import ClosableChannel
from datamover.api.http.pace import BodyPace, ConnectionTimeouts
from datamover.bounds.door import (
    BODY_PIECE,
    HEAD_PIECE,
    LARGEST_REQUEST_HEAD,
    LONGEST_CONTENT_LENGTH,
    LONGEST_FIRST_LINE,
    MOST_BYTES_AHEAD,
    MOST_BYTES_DISCARDED,
    MOST_HEADERS,
)

log = Logger()

_WAITING, _HEAD, _BODY, _ANSWERING, _REFUSED, _CLOSING = range(6)


class Channel(ClosableChannel):
    """HTTP/1.1 with one client."""

    maxHeaders = MOST_HEADERS  # noqa: N815 - Twisted's
    totalHeadersSize = MAX_LENGTH = LARGEST_REQUEST_HEAD  # noqa: N815 - Twisted's
    crowded: str | None = None
    """The refusal of a connection that exceeds a limit."""
    left: Callable[[], None] | None = None
    """Called when the connection has ended."""

    who = ""
    """The key for fair turns: the client's after a login on this connection, before that its network's."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._pace = ConnectionTimeouts()
        self._phase = _WAITING
        self._size = self._number = 0
        """Bytes and lines of the head that have come, or bytes that were thrown away."""
        self._body = BodyPace(self._pace, 0.0)
        self._come = bytearray()
        """Received bytes that are not parsed yet."""
        self._chunks: ChunkedDecoder | None = None
        self._asked = False
        """The connection waits for a turn."""
        self._held = False
        """Reading the body is suspended."""
        self._gone = False
        self._peer: Any = None
        self._host: Any = None
        """The addresses of both ends, which the transport would ask the system for at every request."""
        self._unsent: list[Callable[[], None]] = []

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's
        self._pace = self.factory.pace
        self._peer, self._host = self.transport.getPeer(), self.transport.getHost()
        super().connectionMade()  # type: ignore[no-untyped-call]
        self._allow(self._pace.head)
        if self.crowded is not None:
            self.refuse(503, self.crowded)

    def getPeer(self) -> Any:  # noqa: N802 - Twisted's
        return self._peer

    def getHost(self) -> Any:  # noqa: N802 - Twisted's
        return self._host

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override] # noqa: N802 - Twisted's
        self._gone = True
        self._come.clear()
        self._stop_looking()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self._sent()
        if self.left is not None:
            self.left()

    # Turns ------------------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        if self._phase in (_REFUSED, _CLOSING):
            self._size += len(data)
            if self._size > MOST_BYTES_DISCARDED:
                self.transport.abortConnection()
            return
        self._come += data
        if self._phase == _BODY and not self._held:
            now = self._now()
            self._body.came(len(data), now)
            self._allow_body(now)
        self._go_on()

    def advance(self) -> None:
        """Parse a piece of the received bytes."""
        self._asked = False
        if self._gone or self._held or self._phase in (_REFUSED, _CLOSING):
            return
        if self._chunks is not None and self._chunks.more:
            self.paused = False
            self._read_chunks()
        else:
            # Twisted's buffer holds bytes that came before those in _come: they are parsed first.
            size = 0 if self.paused and self._buffer else HEAD_PIECE if self.line_mode else BODY_PIECE
            piece = bytes(self._come[:size])
            del self._come[:size]
            self.paused = False
            if self._phase == _WAITING:
                self._begin()
            super().dataReceived(piece)  # type: ignore[no-untyped-call]
        self._go_on()

    def _go_on(self) -> None:
        """Ask for a turn if there are bytes to parse, and pause or resume receiving."""
        busy = self._handlingRequest or self._held or self._waitingForTransport
        # No further request may follow.
        busy = busy or (not self.persistent and self._phase == _WAITING)
        # An incomplete line in Twisted's buffer needs no turn: its rest has to arrive first.
        more = self._come or (self.paused and self._buffer) or (self._chunks is not None and self._chunks.more)
        if more and not busy and not self._asked and not self._gone:
            self._asked = True
            self.factory.turns.ask(self)
        elif self.ended and not (more or busy or self._asked or self._phase in (_REFUSED, _CLOSING)):
            self._drop()
        unread = self._waitingForTransport and not self._handlingRequest
        full = len(self._come) > MOST_BYTES_AHEAD or self._held or unread
        if full == self._receiving and self._phase not in (_REFUSED, _CLOSING):
            self._receiving = not full
            if full:
                self._body.waited()
                self._networkProducer.pauseProducing()
                self._look_later()
            else:
                self._networkProducer.resumeProducing()

    def hold(self) -> None:
        """Suspend reading the body until ``release``."""
        self._held = self.paused = True
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        self._go_on()

    def release(self, *, stranger: bool) -> None:
        """Resume reading the body; the body of a ``stranger``, who has not logged in, has less time."""
        self._held = False
        if self._gone or self._phase != _BODY:
            return
        self._body = BodyPace(self._pace, self._now())
        self._body.stranger = stranger
        self._allow_body(self._now())
        self._go_on()

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's
        """Start no further request until the client has read the answers before."""
        self._waitingForTransport = True
        if self._requestProducer is not None:
            self._requestProducer.pauseProducing()
        self._go_on()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's
        self._waitingForTransport = False
        self._sent()
        if self._requestProducer is not None:
            self._requestProducer.resumeProducing()
        self._go_on()

    def when_sent(self, call: Callable[[], None]) -> None:
        """Call ``call`` once the client has read what was written, or the connection has ended."""
        self._unsent.append(call)
        if self._gone or not self._waitingForTransport:
            self._sent()

    def _sent(self) -> None:
        calls, self._unsent = self._unsent, []
        for call in calls:
            call()

    # Requests ---------------------------------------------------------------------------------------------------

    def resetTimeout(self) -> None:  # noqa: N802 - Twisted's
        """Do nothing: arriving bytes extend no time limit, and each phase sets its own."""

    def _begin(self) -> None:
        self._phase, self._size, self._number = _HEAD, 0, 0
        self._allow(self._pace.head)

    def lineReceived(self, line: bytes) -> None:  # noqa: N802 - Twisted's
        if self._phase in (_REFUSED, _CLOSING):
            return
        if self._phase == _WAITING:
            self._begin()
        self._size += len(line)
        self._number += 1
        if self._size > (LONGEST_FIRST_LINE if self._number == 1 else LARGEST_REQUEST_HEAD):
            self._oversized(first=self._number == 1)
        elif self._number > MOST_HEADERS + 2:
            self.refuse(431, f"The request has more than {MOST_HEADERS} headers.")
        else:
            super().lineReceived(line)  # type: ignore[no-untyped-call]

    def headerReceived(self, line: bytes) -> bool:  # noqa: N802 - Twisted's
        name, _, value = line.partition(b":")
        if len(value.strip()) > LONGEST_CONTENT_LENGTH and name.strip().lower() == b"content-length":
            # int() raises ValueError for a very long number, and Twisted does not expect that.
            self._respondToBadRequestAndDisconnect()
            return False
        return bool(super().headerReceived(line))  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: N802 - Twisted's
        self._oversized(first=self._number == 0)

    def _oversized(self, *, first: bool) -> None:
        status, what, most = (
            (414, "first line is", LONGEST_FIRST_LINE) if first else (431, "headers are", LARGEST_REQUEST_HEAD)
        )
        self.refuse(status, f"The request's {what} over {most} bytes.")

    def allHeadersReceived(self) -> None:  # noqa: N802 - Twisted's
        codings = self.requests[-1].requestHeaders.getRawHeaders(b"Transfer-Encoding")
        if codings is not None and (self._version != b"HTTP/1.1" or [each.lower() for each in codings] != [b"chunked"]):
            # RFC 9112, section 6.1: a request whose length is ambiguous is refused.
            self._respondToBadRequestAndDisconnect()
            return
        self._chunks = None
        if codings is not None:
            request = self.requests[-1]
            self._chunks = ChunkedDecoder(request.handleContentChunk, self._finishRequestBody, lambda: self._held)
            self._transferDecoder = self._chunks
        self._phase = _BODY
        self._body = BodyPace(self._pace, self._now())
        self._allow(self._pace.silence)
        request = self.requests[-1]
        super().allHeadersReceived()  # type: ignore[no-untyped-call]
        self._body.stranger = request.stranger

    def rawDataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        if self._phase not in (_REFUSED, _CLOSING):
            super().rawDataReceived(data)

    def _read_chunks(self) -> None:
        assert self._chunks is not None, "only called with chunks"
        try:
            self._chunks.advance()
        except MalformedChunk:
            self._respondToBadRequestAndDisconnect()

    def allContentReceived(self) -> None:  # noqa: N802 - Twisted's
        if self._phase in (_REFUSED, _CLOSING):
            return
        self._phase, self._chunks = _ANSWERING, None
        # One request a turn: the next one is parsed in another.
        self.paused = True
        # Twisted restores this timeout when the request has been answered.
        self._allow(self._pace.idle)
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def requestDone(self, request: Any) -> None:  # noqa: N802 - Twisted's
        if self._phase == _ANSWERING:
            self._phase = _WAITING
        self._buffer += b"".join(self._dataBuffer)
        self._dataBuffer = []
        super().requestDone(request)  # type: ignore[no-untyped-call]
        if not self.persistent:
            self._allow(self._pace.idle)
        self._receiving = self._receiving or not self._waitingForTransport
        self._go_on()

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:  # noqa: N802
        """Write the head of an answer as one piece: the transport handles each piece by itself."""
        fields = [b"%b: %b" % (name, value) for name, values in headers.getAllRawHeaders() for value in values]
        self.transport.write(b"\r\n".join((b"%b %b %b" % (version, code, reason), *fields, b"", b"")))

    def timeoutConnection(self) -> None:  # noqa: N802 - Twisted's
        if self._phase == _BODY and (left := self._body.left(self._now())):
            self._allow(left)
        elif self._phase in (_HEAD, _BODY):
            what = "head" if self._phase == _HEAD else "body"
            log.info("refused {peer}: its request was too slow", peer=self.transport.getPeer())
            self.refuse(408, f"The request's {what} took too long.")
        elif self._phase == _REFUSED:
            self._drop()
        elif self._phase == _CLOSING:
            self.transport.abortConnection()
        else:
            self._drop()

    def refuse(self, status: int, text: str) -> None:
        """Answer in plain text and end the connection."""
        if self._phase in (_REFUSED, _CLOSING):
            return
        self._phase, self._size = _REFUSED, 0
        self._come.clear()
        if not self._receiving:
            self._networkProducer.resumeProducing()
        body = (text + "\n").encode()
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode(),
            b"Content-Type: text/plain; charset=utf-8",
            b"Content-Length: %d" % len(body),
            b"Connection: close",
            *([b"Retry-After: 5"] if status == 503 else []),
        ]
        self.transport.write(b"\r\n".join([*lines, b"", body]))
        self.transport.unregisterProducer()
        if ISSLTransport.providedBy(self.transport):
            self._drop()
            return
        self.transport.loseWriteConnection()
        self._allow(self._pace.linger)

    def _allow(self, seconds: float) -> None:
        self.setTimeout(seconds)  # type: ignore[no-untyped-call]

    def _allow_body(self, now: float) -> None:
        # A body that is too slow times out at once: timeoutConnection alone refuses it.
        self._allow(max(self._body.left(now), 0.001))

    def _drop(self) -> None:
        self._phase = _CLOSING
        self._allow(self._pace.linger)
        self.loseConnection()  # type: ignore[no-untyped-call]

    def _respondToBadRequestAndDisconnect(self) -> None:  # noqa: N802 - Twisted's
        self.refuse(400, "The request cannot be read as HTTP.")

    def _now(self) -> float:
        return float(self.factory.reactor.seconds())
