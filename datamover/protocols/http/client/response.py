"""The answer to a request, as ``twisted.web.iweb.IResponse``.

A file is read from ``Response.body``. treq gets the body by ``deliverBody``, decoded if the server compressed it
unasked.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers, InvalidHeaderName
from twisted.web.iweb import UNKNOWN_LENGTH, IClientRequest, IResponse
from zope.interface import implementer

from datamover.bounds.servers import ANSWER_SECONDS
from datamover.protocols.http.answers import Head
from datamover.protocols.http.client.body import Body, BodyStream
from datamover.protocols.http.client.decoding import decoded


@implementer(IClientRequest)
class Request:
    """The request of a ``Response``."""

    def __init__(self, method: bytes, url: bytes, headers: Mapping[str, str]) -> None:
        self.method = method
        self.absoluteURI = url
        self.headers = Headers()
        for name, value in headers.items():
            self.headers.setRawHeaders(name, [value.encode("utf-8", "surrogateescape")])


@implementer(IResponse)
class Response:
    """An answer whose head is here. Its body must be read to the end or closed."""

    version = (b"HTTP", 1, 1)

    def __init__(self, method: bytes, sent: Mapping[str, str], head: Head, body: Body) -> None:
        """``sent`` are the headers of the request, without the usual ones."""
        self.head = head
        self.body = body
        """The bytes as received, not decoded."""
        self.previousResponse: Any = None
        self._method = method
        self._sent = sent
        self._headers: Headers | None = None
        self.length: Any = 0 if method == b"HEAD" else head.length
        """Bytes that ``deliverBody`` will deliver, or UNKNOWN_LENGTH. Twisted's decoders set it."""
        if self.length is None or (head.codings and not self._coded):
            self.length = UNKNOWN_LENGTH

    @property
    def code(self) -> int:
        return self.head.status

    @property
    def phrase(self) -> bytes:
        """The standard phrase for the status, b"" if there is none."""
        with suppress(ValueError):
            return HTTPStatus(self.head.status).phrase.encode("ascii")
        return b""

    @property
    def headers(self) -> Headers:
        """The header fields with valid names; without Content-Encoding if ``deliverBody`` decodes the body."""
        if self._headers is None:
            self._headers = Headers()
            for name, values in self.head.fields.items():
                with suppress(InvalidHeaderName):
                    self._headers.setRawHeaders(name, values)
            if not self._coded:
                self._headers.removeHeader(b"content-encoding")
        return self._headers

    @property
    def request(self) -> Request:
        return Request(self._method, self.head.url.text.encode("ascii"), self._sent)

    def setPreviousResponse(self, response: IResponse) -> None:  # noqa: N802
        self.previousResponse = response

    def deliverBody(self, protocol: IProtocol) -> None:  # noqa: N802
        """Deliver the body to ``protocol``, which may pause and resume its transport. Call it once.

        ``connectionLost`` is called when the connection is back in the pool or closed: with ResponseDone at the end of
        the body, ConnectionAborted if the protocol closed its transport, else the error of ``BodyStream.read``, among
        them TimedOut after ``ANSWER_SECONDS``.
        """
        self.body.hurry(ANSWER_SECONDS)
        _Delivery(protocol, self._content).start()

    @property
    def _coded(self) -> bool:
        """Whether the caller asked for codings, and so undoes them itself."""
        return any(name.lower() == "accept-encoding" for name in self._sent)

    async def _content(self) -> BodyStream:
        return self.body if self._coded else await decoded(self.head, self.body)


@implementer(IPushProducer)
class _Delivery:
    """Delivers a body to a protocol; is its transport."""

    disconnecting = False

    def __init__(self, protocol: IProtocol, content: Callable[[], Awaitable[BodyStream]]) -> None:
        self._protocol = protocol
        self._content = content
        self._stopped = False
        self._reading: Deferred[bytes] | None = None
        self._resumed: Deferred[None] | None = None
        """Fires when the protocol resumes; None if it is not paused."""

    def start(self) -> None:
        self._protocol.makeConnection(self)  # type: ignore[arg-type]
        Deferred.fromCoroutine(self._deliver())

    def pauseProducing(self) -> None:  # noqa: N802
        if self._resumed is None:
            self._resumed = Deferred()

    def resumeProducing(self) -> None:  # noqa: N802
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:  # noqa: N802
        """Stop delivering; drops the connection unless the body is complete."""
        self._stopped = self.disconnecting = True
        if self._reading is not None:
            self._reading.cancel()
        self.resumeProducing()

    loseConnection = abortConnection = stopProducing  # noqa: N815

    async def _deliver(self) -> None:
        reason: BaseException
        try:
            body = await self._content()
            try:
                reason = await self._deliver_from(body)
            finally:
                await body.close()
        except CancelledError:
            reason = ConnectionAborted()
        except Exception as error:  # The protocol is told of it.
            reason = error
        self._protocol.connectionLost(Failure(reason))  # type: ignore[no-untyped-call]

    async def _deliver_from(self, body: BodyStream) -> BaseException:
        """Deliver; return the reason for ``connectionLost``."""
        while await self._wanted():
            self._reading = Deferred.fromCoroutine(body.read())
            try:
                data = await self._reading
            finally:
                self._reading = None
            if not data:
                return ResponseDone()
            if await self._wanted():
                self._protocol.dataReceived(data)
        return ConnectionAborted()

    async def _wanted(self) -> bool:
        """Wait while the protocol is paused; return whether to deliver more."""
        while self._resumed is not None:
            await self._resumed
        return not self._stopped
