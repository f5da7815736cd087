"""``PolicyAgent`` makes one request by the ``[sources]`` rules.

Agents here have two methods. ``request`` is ``IAgent``'s, for treq. ``send`` takes a parsed ``WebUrl`` and plain
headers; a file's GET calls it directly, at half the CPU time.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from OpenSSL.SSL import Error as OpenSSLError
from OpenSSL.SSL import SysCallError
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from datamover.bounds.servers import LARGEST_HEAD, MOST_HEAD_LINES, MOST_INFORMATIONAL
from datamover.errors import (
    ConnectionLost,
    DataMoverError,
    Scope,
    ServerError,
    SourceNotAllowedHere,
    Stalled,
    TimedOut,
)
from datamover.protocols.http.answers import Head
from datamover.protocols.http.client.body import Body
from datamover.protocols.http.client.connection import Broken, NoAnswer, StaleConnection
from datamover.protocols.http.client.fields import Excessive, MalformedHttp
from datamover.protocols.http.client.pool import HttpPool, NoConnection
from datamover.protocols.http.client.reader import AnswerReader, HeadTooLarge
from datamover.protocols.http.client.request import request_of
from datamover.protocols.http.client.response import Response
from datamover.protocols.http.client.routes import Routes
from datamover.protocols.http.request_body import BytesBody
from datamover.protocols.tls.verified import VerifiedTLS, words
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import SourcePolicy
from datamover.web.url import WebUrl

TREQS_CODINGS = b"gzip"
"""The value of Accept-Encoding that treq adds after the caller's."""


@implementer(IAgent)
class UrlAgent(ABC):
    """Implements ``IAgent.request`` with ``send``."""

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803
    ) -> Deferred[IResponse]:
        """Send a request; see ``twisted.web.iweb.IAgent.request``.

        Accept-Encoding is "identity", whatever treq adds. If the caller gives a value of its own, that is sent, and
        the body is delivered without undoing its codings.

        Fires with what ``send`` returns, and fails with what it raises, and with InvalidRequest or UnsupportedScheme
        for an unusable URL. Cancelling drops the connection.
        """
        sent: dict[str, str] = {}
        for name, values in headers.getAllRawHeaders() if headers is not None else ():
            if name == b"Accept-Encoding" and values[-1] == TREQS_CODINGS:
                values = values[:-1]
            if values:
                sent[name.decode("ascii")] = b", ".join(values).decode("utf-8", "surrogateescape")

        body = bodyProducer.content if isinstance(bodyProducer, BytesBody) else bodyProducer

        async def response() -> IResponse:
            return await self.send(method, WebUrl.parse(uri.decode("ascii")), sent, body)

        return Deferred.fromCoroutine(response())

    @abstractmethod
    async def send(
        self,
        method: bytes,
        url: WebUrl,
        headers: Mapping[str, str] = MappingProxyType({}),
        body: bytes | IBodyProducer | None = None,
    ) -> Response:
        """Send a request and return the answer once its head is here, whatever its status.

        Cancelling drops the connection.
        """


class PolicyAgent(UrlAgent):
    """Makes single requests over kept connections, pinned to the addresses that were checked.

    It requests a URL only if the policy allows it, and adds the login for that URL. Redirects are not followed.
    """

    def __init__(
        self,
        reactor: Any,
        policy: SourcePolicy,
        credentials: SourceCredentials,
        *,
        connect_timeout: float,
        idle_timeout: float,
        tls: VerifiedTLS,
        proxy: str | None = None,
        file: str = "datamover.toml",
    ) -> None:
        """Prepare; times in seconds. Raises ConfigError, naming ``file``, for an unusable ``proxy``."""
        self._reactor = reactor
        self._policy = policy
        self._credentials = credentials
        self._idle_timeout = idle_timeout
        self._tls = tls
        self._routes = Routes(reactor, policy, connect_timeout=connect_timeout, tls=tls, proxy=proxy, file=file)
        self._pool = HttpPool(reactor, connect_timeout=connect_timeout)
        self._closed = False

    async def send(
        self,
        method: bytes,
        url: WebUrl,
        headers: Mapping[str, str] = MappingProxyType({}),
        body: bytes | IBodyProducer | None = None,
        *,
        asked: WebUrl | None = None,
        extra: float = 0.0,
        once: bool = False,
    ) -> Response:
        """Send one request and return the answer once its head is here, whatever its status.

        ``asked`` is the URL that was redirected to this one. ``extra``: seconds that the answer may take beyond
        ``idle_timeout``, for what the server has to do first. A login of ``[[sources.credentials]]`` replaces an
        Authorization in ``headers``. A request is sent again if its kept connection turns out to be closed, unless it
        must be done only ``once`` (RFC 9110 9.2.2): such a one has a new connection. A producer is paused while the
        server does not read, and stopped when the answer arrives; with the header Expect it waits until the server asks
        for the body.

        Raises SourceNotAllowedHere (the URL or its address), AuthenticationFailed (the secret's file, or the proxy),
        ConnectFailed, TimedOut, Stalled, ConnectionLost, TLSFailed, ServerError (not HTTP) and InvalidRequest (a
        header that cannot be sent). Cancelling drops the connection.
        """
        self.check(url)
        login = self._credentials.header_for(url)
        if login is not None:
            name, value = (part.decode("utf-8") for part in login)
            headers = {**{given: headers[given] for given in headers if given.lower() != name.lower()}, name: value}
        request = request_of(method, self._routes.target(url), url.authority, headers, body)
        received = Body(self._reactor, self._idle_timeout, url)
        producer = None if isinstance(body, bytes) else body
        once = once or (producer is not None and not getattr(producer, "repeatable", False))
        answer = await self._answer(method, url, request, received, producer, "Expect" in headers, extra, once)
        head = Head(answer.status, answer.fields, answer.length, asked or url, url)
        return Response(method, headers, head, received)

    def check(self, url: WebUrl) -> None:
        """Raise SourceNotAllowedHere if the rules refuse a URL. A host name's addresses are checked later."""
        if not self._policy.allows(url):
            raise SourceNotAllowedHere(f"{url.told} is not an allowed source: [sources] does not allow it")

    def busy(self, url: WebUrl) -> int:
        """Return how many connections to a URL's host, or to the proxy for it, are in use."""
        return self._pool.busy(self._routes.key(url))

    async def close(self) -> None:
        """Cancel all requests, close every connection, refuse new ones. Completes when the sockets are closed."""
        self._closed = True
        await self._pool.close()

    async def _answer(
        self,
        method: bytes,
        url: WebUrl,
        request: bytes,
        received: Body,
        producer: IBodyProducer | None,
        expect: bool,
        extra: float,
        once: bool,
    ) -> AnswerReader:
        while True:
            if self._closed:
                raise ConnectionLost(f"{url.told} is not asked any more: datamover is stopping", scope=Scope.SOURCE)
            try:
                # What is sent only once is not sent over a kept connection, which may be closed already.
                connection = await self._pool.connection(
                    self._routes.key(url), lambda: self._routes.endpoint(url), new=once
                )
                return await connection.ask(
                    request,
                    method,
                    received,
                    clock=self._reactor,
                    timeout=self._idle_timeout + extra,
                    producer=producer,
                    expect=expect,
                )
            except StaleConnection:
                # This ends: a new connection is never stale.
                continue
            except NoConnection as error:
                raise TimedOut(
                    f"no connection to {url.authority} within {error.args[0]:g} s", scope=Scope.SOURCE
                ) from None
            except NoAnswer as error:
                raise Stalled(f"{url.told} did not answer for {error.args[0]:g} s", scope=Scope.SOURCE) from None
            except HeadTooLarge:
                raise ServerError(
                    f"{url.told} answered with more than {LARGEST_HEAD} bytes or {MOST_HEAD_LINES} lines of headers, "
                    f"or more than {MOST_INFORMATIONAL} informational answers (1xx) before them",
                    scope=Scope.SOURCE,
                ) from None
            except MalformedHttp as error:
                again = not isinstance(error, Excessive)
                told = f"{url.told} cannot be read: {error}"
                raise ServerError(told, scope=Scope.SOURCE, retryable=again) from None
            except Broken as error:
                raise self._broken(url, error.args[0]) from None

    def _broken(self, url: WebUrl, reason: BaseException | None) -> DataMoverError:
        """Return the error for a connection that ended before it brought an answer."""
        if isinstance(reason, OpenSSLError) and not isinstance(reason, SysCallError) and "eof" not in words(reason):
            return self._tls.refused(url.host, reason)
        return ConnectionLost(f"the connection to {url.told} broke before an answer came", scope=Scope.SOURCE)
