"""One request: its headers, its body within bounds, and the client's TLS certificate.

A body is kept only if it may be a call: within the size limit, with a login where one is needed, and while there is
room. A body of more than SMALL_BODY is not read before its login has been checked. Everything else is read and thrown
away, so that the client gets an answer.
"""

import re
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
from datamover.bounds.door import DRAINED_TIMES, SMALL_BODY
from datamover.concurrency.fair_share import FairShare

BLOCK = 2**20
"""Bytes of room that are taken at a time for a body of unknown length."""
_ABSOLUTE = re.compile(rb"(?i)https?://[^/?]*")
"""The scheme and the authority of a target in absolute form."""

Admit = Callable[["BoundedRequest"], Coroutine[Any, Any, Caller | None]]
"""Returns the caller of a request, None for a wrong login."""


class BoundedRequest(Request):
    """A request that keeps a bounded part of its body."""

    channel: Channel

    def __init__(
        self,
        *args: Any,
        request_filter: RequestFilter,
        limit: int,
        room: FairShare,
        admit: Admit | None,
        **keywords: Any,
    ) -> None:
        """``admit`` None: the site has no interface, and no large body is kept."""
        super().__init__(*args, **keywords)  # type: ignore[no-untyped-call]
        self._request_filter = request_filter
        self._room = room
        self._admit = admit
        self._taken = 0
        self._limit = limit
        self._length: int | None = 0
        self.received = 0
        self._kept = False
        self.refusal: Refusal | None = None
        """Why the request is refused by its headers; its body is not kept."""
        self.too_large = False
        self.crowded = False
        """Whether there was no room for the body."""
        self.stranger = False
        """Whether the sender has not logged in."""
        self.asked = False
        """Whether the login was checked before the body was read; ``sender`` is the result."""
        self.sender: Caller | Failure | None = None

    def header(self, name: str) -> list[str]:
        """Return every value of a header; bytes that are not UTF-8 become the replacement character."""
        values = self.requestHeaders.getRawHeaders(name.encode("ascii"))
        return [value.decode("utf-8", "replace") for value in values] if values else []

    @property
    def charset(self) -> str | None:
        """The charset that Content-Type names, None where it names none."""
        return charset_of(self.header("content-type")[0])

    @property
    def certificate(self) -> Certificate | None:
        """The valid certificate that the client showed in the TLS handshake, None without one."""
        if not ISSLTransport.providedBy(self.transport):
            return None
        shown: Any = self.transport.getPeerCertificate()
        return shown and shown.to_cryptography()  # type: ignore[no-any-return]

    def parseCookies(self) -> None:  # noqa: N802 - Twisted's
        """Do nothing: there are no cookies here, and a header of 16 KiB can hold thousands."""

    def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's
        # A Request does not know its method yet: process() checks one that is not POST.
        self.refusal = self._request_filter.refusal("POST", self.header)
        self._length = length
        self.too_large = length is not None and length > self._limit
        anonymous = self._request_filter.login and not self.header("authorization") and self.certificate is None
        self.stranger = bool(self.refusal or anonymous)
        self._kept = not (self.stranger or self.too_large)
        super().gotLength(length if self._kept else 0)  # type: ignore[no-untyped-call]
        if length is not None and length > SMALL_BODY and not self.stranger:
            self._ask()

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        self.received += len(data)
        if self.received > self._limit * DRAINED_TIMES:
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
        """Suspend reading the body until its login has been checked."""
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
        """Take room for ``size`` bytes until the request ends; drop the body if there is no room."""
        more = min(size, self._limit) - self._taken
        if not self._room.take(who, more):
            self.crowded = True
            self._forget()
            return
        self._taken += more
        self.notifyFinish().addBoth(lambda _: self._room.give(who, more))

    def _forget(self) -> None:
        """Drop the body, and keep nothing more of it."""
        if self._kept and self.content is not None:
            self.content.close()
            self.content = BytesIO()
        self._kept = False

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: N802 - Twisted's
        """Take a request; of a target in absolute form the path counts (RFC 9112, section 3.2.2)."""
        if (absolute := _ABSOLUTE.match(path)) is not None:
            rest = path[absolute.end() :]
            path = rest if rest.startswith(b"/") else b"/" + rest
        super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]

    def process(self) -> None:
        if self.method != b"POST":
            self.refusal = self._request_filter.refusal(self.method.decode("latin-1"), self.header)
        super().process()  # type: ignore[no-untyped-call]
