"""One request: how much of its body is kept, and what the client showed in the TLS handshake.

A body is kept only where it may be a call's: within the bound, with a login where one is needed, and while there is
room. One that is not small waits unread until its login is known to be right. The rest is read and thrown away, so that
the client finds an answer.
"""

from collections.abc import Callable, Coroutine
from io import BytesIO
from typing import Any

from cryptography.x509 import Certificate
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.python.failure import Failure
from twisted.web.server import Request

from datamover.api.context import Caller
from datamover.api.http.channel import Channel
from datamover.api.http.encodings import charset_of
from datamover.api.http.request_filter import Refusal, RequestFilter
from datamover.concurrency.fair_share import FairShare

SMALL_BODY = 64 * 1024
"""Bytes of a body that are kept before its login is looked at: as many as there are connections, at most."""
BLOCK = 2**20
"""Bytes of room that are taken at a time for a body whose length is not known."""
DRAINED = 2
"""A body may be this many times over its bound; then the connection is closed."""

Admit = Callable[["BoundedRequest"], Coroutine[Any, Any, Caller | None]]
"""Returns who sends a request, None for one whose login is wrong."""


class BoundedRequest(Request):
    """A request that keeps no more of its body than is wanted."""

    channel: Channel

    def __init__(
        self, *args: Any, gate: RequestFilter, limit: int, room: FairShare, admit: Admit | None, **keywords: Any
    ) -> None:
        """Without ``admit`` nobody calls here, and no large body is kept."""
        super().__init__(*args, **keywords)  # type: ignore[no-untyped-call]
        self._gate = gate
        self._room = room
        self._admit = admit
        self._taken = 0
        self._limit = limit
        self._length: int | None = 0
        self.received = 0
        self._kept = False
        self.refusal: Refusal | None = None
        """Why the body is not kept at all."""
        self.too_large = False
        self.crowded = False
        """There was no room for the body."""
        self.stranger = False
        """Nobody who has logged in sends the body."""
        self.asked = False
        """Who sends it was asked before the body was read; ``sender`` is the answer."""
        self.sender: Caller | Failure | None = None

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
        self._length = length
        self.too_large = length is not None and length > self._limit
        anonymous = self._gate.login and not self.header("authorization") and self.certificate is None
        self.stranger = bool(self.refusal or anonymous)
        self._kept = not (self.stranger or self.too_large)
        super().gotLength(length if self._kept else 0)  # type: ignore[no-untyped-call]
        if length is not None and length > SMALL_BODY and not self.stranger:
            self._ask()

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        self.received += len(data)
        if self.received > self._limit * DRAINED:
            self.loseConnection()  # type: ignore[no-untyped-call]
        elif self.received > self._limit:
            self.too_large = True
            self._forget()
        if self._kept:
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]
            if self.received > SMALL_BODY:
                if not self.asked:
                    self._ask()
                elif self.received > self._taken:
                    self._take(self.channel.who, self._taken + BLOCK)

    def _ask(self) -> None:
        """Leave the rest of the body where it is until it is known who sends it."""
        if self._admit is None:
            self.stranger = True
            self._forget()
            return
        self.asked = True
        channel = self.channel
        channel.hold()
        asking = Deferred.fromCoroutine(self._admit(self))
        self.notifyFinish().addErrback(lambda _: asking.cancel())
        asking.addBoth(self._admitted, channel)

    def _admitted(self, sender: Caller | Failure | None, channel: Channel) -> None:
        self.sender = sender
        if not isinstance(sender, Caller):
            self.stranger = True
            self._forget()
        elif self._kept:
            channel.who = sender.key
            self._take(channel.who, self._length or BLOCK)
        channel.release(stranger=self.stranger)

    def _take(self, who: str, size: int) -> None:
        """Take room for so much of the body, given back when the request ends; keep none of it where there is none."""
        more = min(size, self._limit) - self._taken
        if not self._room.take(who, more):
            self.crowded = True
            self._forget()
            return
        self._taken += more
        self.notifyFinish().addBoth(lambda _: self._room.give(who, more))

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
