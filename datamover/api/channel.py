"""One connection of a client: what it sends is bounded in size and in time, and a refusal says what the bound is.

A byte now and then keeps no connection: a request's head has its time, its body a pace. Of what is refused the rest is
read and thrown away for a moment, so that the client finds the answer rather than a broken pipe.
"""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

log = Logger()


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a client may take, in seconds."""

    idle: float = 60.0
    """For a connection to wait for its next request."""
    head: float = 15.0
    """For a request's line and headers; the first one's, the TLS handshake included."""
    silence: float = 30.0
    """Between two pieces of a body."""
    grace: float = 30.0
    """For a body …"""
    slowest: int = 10_000
    """… and a second more for each of so many bytes."""
    linger: float = 2.0
    """That a refused connection is listened to."""


DISCARDED = 2**20
"""Bytes that are read of a refused connection."""
HEADERS = 100
HEADER_SIZE = 16 * 1024
"""Bytes of the request's line and headers together; a login is among them."""
LONGEST_NUMBER = 18
"""Digits."""

_WAITING, _HEAD, _BODY, _ANSWERING, _REFUSED, _CLOSING = range(6)


class Channel(HTTPChannel):
    """HTTP/1.1 with one client."""

    maxHeaders = HEADERS  # noqa: N815 - Twisted's
    totalHeadersSize = MAX_LENGTH = HEADER_SIZE  # noqa: N815 - Twisted's
    factory: Any
    transport: Any
    crowded: str | None = None
    """Why this connection is one too many."""
    left: Callable[[], None] | None = None
    """Called when the connection has ended."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._pace = Pace()
        self._phase = _WAITING
        self._since = 0.0
        self._size = self._number = 0
        """What of the head has come, or of the body, or of what is thrown away: bytes, and lines."""

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's
        self._pace = self.factory.pace
        super().connectionMade()  # type: ignore[no-untyped-call]
        self._allow(self._pace.head)
        if self.crowded is not None:
            self.refuse(503, self.crowded)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override] # noqa: N802 - Twisted's
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        if self.left is not None:
            self.left()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        if self._phase in (_REFUSED, _CLOSING):
            self._size += len(data)
            if self._size > DISCARDED:
                self.transport.abortConnection()
            return
        if self._phase == _WAITING:
            self._begin()
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def resetTimeout(self) -> None:  # noqa: N802 - Twisted's
        """Do nothing: what arrives is no reason to wait longer; each phase sets its own time."""

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
        if self._size > HEADER_SIZE:
            self._oversized(first=self._number == 1)
        elif self._number > HEADERS + 2:
            self.refuse(431, f"The request has more than {HEADERS} headers.")
        else:
            super().lineReceived(line)  # type: ignore[no-untyped-call]

    def headerReceived(self, line: bytes) -> bool:  # noqa: N802 - Twisted's
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and len(value.strip()) > LONGEST_NUMBER:
            # Python does not read numbers of any length, nor does Twisted expect it.
            self._respondToBadRequestAndDisconnect()
            return False
        return bool(super().headerReceived(line))  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: N802 - Twisted's
        self._oversized(first=self._number == 0)

    def _oversized(self, *, first: bool) -> None:
        status, what = (414, "first line is") if first else (431, "headers are")
        self.refuse(status, f"The request's {what} over {HEADER_SIZE} bytes.")

    def allHeadersReceived(self) -> None:  # noqa: N802 - Twisted's
        self._phase, self._since, self._size = _BODY, self._now(), 0
        self._allow(self._pace.silence)
        super().allHeadersReceived()  # type: ignore[no-untyped-call]

    def rawDataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        if self._phase in (_REFUSED, _CLOSING):
            return
        if self._phase == _BODY:
            self._size += len(data)
            left = self._since + self._pace.grace + self._size / self._pace.slowest - self._now()
            if left <= 0:
                self.timeoutConnection()
                return
            self._allow(min(self._pace.silence, left))
        super().rawDataReceived(data)

    def allContentReceived(self) -> None:  # noqa: N802 - Twisted's
        self._phase = _ANSWERING
        # What Twisted puts back when the request is answered.
        self._allow(self._pace.idle)
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def requestDone(self, request: Any) -> None:  # noqa: N802 - Twisted's
        if self._phase == _ANSWERING:
            self._phase = _WAITING
        super().requestDone(request)  # type: ignore[no-untyped-call]

    def timeoutConnection(self) -> None:  # noqa: N802 - Twisted's
        if self._phase in (_HEAD, _BODY):
            what = "head" if self._phase == _HEAD else "body"
            log.info("{peer} was too slow: dropped", peer=self.transport.getPeer())
            self.refuse(408, f"The request's {what} took too long.")
        elif self._phase == _REFUSED:
            self._drop()
        elif self._phase == _CLOSING:
            self.transport.abortConnection()
        else:
            self._drop()

    def refuse(self, status: int, text: str) -> None:
        """Answer in plain text, and let the connection go."""
        if self._phase in (_REFUSED, _CLOSING):
            return
        self._phase, self._size = _REFUSED, 0
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

    def _drop(self) -> None:
        self._phase = _CLOSING
        self._allow(self._pace.linger)
        self.loseConnection()  # type: ignore[no-untyped-call]

    def _respondToBadRequestAndDisconnect(self) -> None:  # noqa: N802 - Twisted's
        self.refuse(400, "The request cannot be read as HTTP.")

    def _now(self) -> float:
        return float(self.factory.reactor.seconds())
