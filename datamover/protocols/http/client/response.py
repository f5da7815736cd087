"""An answer whose head is here and whose body is coming, as Twisted's web clients expect it.

Files are read from ``Response.body``, as it came. What is asked through treq gets the body by ``deliverBody``, undone
of the codings that nobody asked for.
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

from datamover.protocols.http.answers import Head
from datamover.protocols.http.client.body import Content
from datamover.protocols.http.client.decoding import decoded


@implementer(IClientRequest)
class Request:
    """What was sent."""

    def __init__(self, method: bytes, url: bytes, headers: Mapping[str, str]) -> None:
        self.method = method
        self.absoluteURI = url
        self.headers = Headers()
        for name, value in headers.items():
            self.headers.setRawHeaders(name, [value.encode("utf-8", "surrogateescape")])


@implementer(IResponse)
class Response:
    """One answer; ``twisted.web.iweb.IResponse`` and more. Its body must be read to its end or closed."""

    version = (b"HTTP", 1, 1)

    def __init__(self, method: bytes, sent: Mapping[str, str], head: Head, body: Content) -> None:
        """Take the answer to a request that was made with these headers beside the usual ones."""
        self.head = head
        self.body = body
        """The bytes as they come, codings and all."""
        self.previousResponse: Any = None
        self._method = method
        self._sent = sent
        self._headers: Headers | None = None
        self.length: Any = 0 if method == b"HEAD" else head.length
        """Bytes that ``deliverBody`` delivers, UNKNOWN_LENGTH where that is not known before."""
        if self.length is None or (head.codings and not self._coded):
            self.length = UNKNOWN_LENGTH

    @property
    def code(self) -> int:
        return self.head.status

    @property
    def phrase(self) -> bytes:
        """The standard's phrase for the status, b"" where it has none."""
        with suppress(ValueError):
            return HTTPStatus(self.head.status).phrase.encode("ascii")
        return b""

    @property
    def headers(self) -> Headers:
        """The fields whose names are tokens; no Content-Encoding where ``deliverBody`` undoes it."""
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
        """Hand the body to ``protocol``, as fast as its transport is not paused; once.

        Its ``connectionLost`` is called when the connection is free or gone: with ResponseDone at the end of the
        body, ConnectionAborted where the protocol ended it, else with the error that ``Content.read`` raises.
        """
        _Delivery(protocol, self._content).start()

    @property
    def _coded(self) -> bool:
        """Tell whether codings were asked for, which are then for those to undo who did."""
        return any(name.lower() == "accept-encoding" for name in self._sent)

    async def _content(self) -> Content:
        return self.body if self._coded else await decoded(self.head, self.body)


@implementer(IPushProducer)
class _Delivery:
    """The transport of a protocol that a body is delivered to."""

    disconnecting = False

    def __init__(self, protocol: IProtocol, content: Callable[[], Awaitable[Content]]) -> None:
        self._protocol = protocol
        self._content = content
        self._stopped = False
        self._reading: Deferred[bytes] | None = None
        self._resumed: Deferred[None] | None = None
        """Fires when the protocol wants more; None where it does."""

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
        """Deliver nothing more, and drop the connection if there is more to come."""
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
        except Exception as error:  # Whatever it is, it is for the protocol.
            reason = error
        self._protocol.connectionLost(Failure(reason))  # type: ignore[no-untyped-call]

    async def _deliver_from(self, body: Content) -> BaseException:
        """Return why the delivery ended."""
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
        """Wait while the protocol has paused; tell whether it wants more."""
        while self._resumed is not None:
            await self._resumed
        return not self._stopped
