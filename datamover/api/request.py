"""One request: how much of its body is kept, and what the client showed in the TLS handshake.

A body is kept only where it may be a call's: within the bound, with a login where one is needed, and while there is
room. The rest is read and thrown away, so that the client finds an answer.
"""

from io import BytesIO
from typing import Any

from cryptography.x509 import Certificate
from twisted.internet.interfaces import ISSLTransport
from twisted.web.server import Request

from datamover.api.crowd import Share
from datamover.api.encodings import charset_of
from datamover.api.gate import Gate, Refusal

DRAINED = 2
"""A body may be this many times over its bound; then the connection is closed."""


class BoundedRequest(Request):
    """A request that keeps no more of its body than is wanted."""

    def __init__(self, *args: Any, gate: Gate, limit: int, room: Share, **keywords: Any) -> None:
        super().__init__(*args, **keywords)  # type: ignore[no-untyped-call]
        self._gate = gate
        self._room = room
        self._taken = 0
        self._limit = limit
        self.received = 0
        self._kept = False
        self.refusal: Refusal | None = None
        """Why the body is not kept at all."""
        self.too_large = False
        self.crowded = False
        """There was no room for the body."""

    def header(self, name: str) -> list[str]:
        """Return every value of a header; what is not UTF-8 in it is told by the replacement character."""
        values = self.requestHeaders.getRawHeaders(name.encode("ascii"), ())
        return [value.decode("utf-8", "replace") for value in values]

    @property
    def charset(self) -> str | None:
        """What Content-Type says of the body's encoding, None where it says nothing."""
        return charset_of(self.header("content-type")[0])

    @property
    def certificate(self) -> Certificate | None:
        """What the client showed in the TLS handshake, where it showed one that holds."""
        if not ISSLTransport.providedBy(self.transport):
            return None
        shown: Any = self.transport.getPeerCertificate()
        return shown and shown.to_cryptography()  # type: ignore[no-any-return]

    def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's
        # The method is not known here to a Request; one that is not POST is judged when the body is in.
        self.refusal = self._gate.refusal("POST", self.header)
        self.too_large = length is not None and length > self._limit
        anonymous = self._gate.login and not self.header("authorization") and self.certificate is None
        self._kept = not (self.refusal or self.too_large or anonymous)
        super().gotLength(length if self._kept else 0)  # type: ignore[no-untyped-call]

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        self.received += len(data)
        if self.received > self._limit * DRAINED:
            self.loseConnection()  # type: ignore[no-untyped-call]
        elif self.received > self._limit:
            self.too_large = True
            self._forget()
        elif self._kept and not self._take(len(data)):
            self.crowded = True
            self._forget()
        if self._kept:
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]

    def _take(self, amount: int) -> bool:
        """Take room for a piece of the body, given back when the request ends."""
        address = getattr(self.client, "host", "")
        if not self._room.take(address, amount):
            return False
        if not self._taken:
            self.notifyFinish().addBoth(lambda _: self._room.give(address, self._taken))
        self._taken += amount
        return True

    def _forget(self) -> None:
        """Keep no more of the body, nor what was kept."""
        if self._kept and self.content is not None:
            self.content.close()
            self.content = BytesIO()
        self._kept = False

    def process(self) -> None:
        if self.method != b"POST":
            self.refusal = self._gate.refusal(self.method.decode("latin-1"), self.header)
        super().process()  # type: ignore[no-untyped-call]
