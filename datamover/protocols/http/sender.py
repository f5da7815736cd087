"""One request and its answer: which way it goes out, and what it means when none comes back.

Redirects, logins and ranges are the business of those who ask.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from OpenSSL.SSL import Error as OpenSSLError
from OpenSSL.SSL import SysCallError
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.error import ConnectionLost as TransportLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    ProxyAgent,
    RequestTransmissionFailed,
    ResponseFailed,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer

from datamover.errors import (
    ConfigError,
    ConnectionLost,
    DataMoverError,
    InvalidRequest,
    Scope,
    ServerError,
    Stalled,
    TimedOut,
    UnsupportedScheme,
)
from datamover.protocols.http.answers import Head
from datamover.protocols.http.body import Body
from datamover.protocols.http.endpoints import NamedEndpoint, TunnelEndpoint
from datamover.protocols.http.pool import (
    LARGEST_HEAD,
    Answer,
    HeadTooLarge,
    NoAnswer,
    NoConnection,
    Pool,
    StaleConnection,
)
from datamover.protocols.http.tls import Policy, VerifiedTLS, failed, words
from datamover.registry.sources import SourcePolicy
from datamover.registry.urls import WebUrl


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the head is read, the body is coming and must be closed."""

    head: Head
    body: Body


class Sender:
    """Sends requests over connections that are pinned to admitted addresses, directly or through a proxy.

    Through a proxy it is the proxy that resolves names, so that only a URL's own address can be judged here.
    """

    def __init__(
        self,
        reactor: Any,
        policy: SourcePolicy,
        *,
        connect_timeout: float,
        idle_timeout: float,
        ca_file: Path | None = None,
        proxy: str | None = None,
        file: str = "datamover.toml",
    ) -> None:
        """Prepare; times in seconds. Raises ConfigError, naming ``file``, for a ``ca_file`` or ``proxy`` of no use."""
        self._reactor = reactor
        self._policy = policy
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._tls = Policy(VerifiedTLS(ca_file, file=file))
        self._proxy = None if proxy is None else self._proxy_endpoint(proxy, file)
        self._pool = Pool(reactor, connect_timeout=connect_timeout, idle_timeout=idle_timeout)
        self._waiting: set[Deferred[Any]] = set()
        self._closed = False

    async def send(
        self, method: bytes, url: WebUrl, headers: Headers, *, asked: WebUrl, body: IBodyProducer | None = None
    ) -> Reply:
        """Send one request and return the answer once its head is here, whatever its status.

        It is sent again where a kept connection turns out to be closed: a ``body`` must be able to start anew.

        Raises ConnectFailed, TimedOut, Stalled, ConnectionLost, TLSFailed, AuthenticationFailed (the proxy),
        SourceNotAllowedHere (the address) and ServerError (not HTTP). Cancelling drops the connection.
        """
        answer = await self._answer(method, url, headers, body)
        response = answer.response
        announced = response.length if isinstance(response.length, int) else None
        head = Head(
            status=response.code,
            headers=response.headers,
            length=_announced(response.headers) if method == b"HEAD" else announced,
            asked=asked,
            url=url,
        )
        received = Body(self._reactor, answer.line, self._idle_timeout, url.shown)
        response.deliverBody(received)  # type: ignore[no-untyped-call]
        return Reply(head, received)

    async def close(self) -> None:
        """Cancel what waits, drop every connection and send nothing more; completes when the sockets are gone."""
        self._closed = True
        for waiting in list(self._waiting):
            waiting.cancel()
        await self._pool.close()

    async def _answer(self, method: bytes, url: WebUrl, headers: Headers, body: IBodyProducer | None) -> Answer:
        while True:
            if self._closed:
                raise ConnectionLost(f"{url.shown} is not asked any more: datamover is stopping", scope=Scope.SOURCE)
            waiting: Deferred[Any] = self._agent(url).request(method, url.text.encode("ascii"), headers, body)
            self._waiting.add(waiting)
            try:
                answer: Answer = await waiting
            except StaleConnection:
                # The pool holds a few kept connections at most, and one that is made anew is never stale.
                continue
            except NoConnection as error:
                raise TimedOut(
                    f"no connection to {url.authority} within {error.args[0]:g} s", scope=Scope.SOURCE
                ) from None
            except NoAnswer as error:
                raise Stalled(f"{url.shown} did not answer for {error.args[0]:g} s", scope=Scope.SOURCE) from None
            except HeadTooLarge:
                raise ServerError(
                    f"{url.shown} answered with more than {LARGEST_HEAD} bytes of headers", scope=Scope.SOURCE
                ) from None
            except (RequestTransmissionFailed, ResponseFailed) as error:
                raise _broken(url, error.reasons) from None
            else:
                return answer
            finally:
                self._waiting.discard(waiting)

    def _agent(self, url: WebUrl) -> IAgent:
        if self._proxy is not None and url.scheme == "http":
            agent: IAgent = ProxyAgent(self._proxy, self._reactor, self._pool)  # type: ignore[no-untyped-call]
        else:
            agent = Agent.usingEndpointFactory(self._reactor, _Way(self._endpoint(url)), self._pool)  # type: ignore[no-untyped-call]
        return agent

    def _endpoint(self, url: WebUrl) -> IStreamClientEndpoint:
        endpoint: IStreamClientEndpoint
        if self._proxy is not None:
            endpoint = TunnelEndpoint(self._proxy, url.host, url.port)
        else:
            endpoint = NamedEndpoint(
                self._reactor,
                url.host,
                url.port,
                admit=lambda address: self._policy.allows_address(url, address),
                timeout=self._connect_timeout,
            )
        if url.scheme == "https":
            endpoint = wrapClientTLS(self._tls.creatorForNetloc(url.host.encode("ascii"), url.port), endpoint)
        return endpoint

    def _proxy_endpoint(self, proxy: str, file: str) -> IStreamClientEndpoint:
        try:
            url: WebUrl | None = WebUrl.parse(proxy)
        except (InvalidRequest, UnsupportedScheme):
            url = None
        if url is None or url.scheme != "http" or url.path != "/" or url.query is not None:
            raise ConfigError(
                f"{file}: http.proxy: expected the address of an HTTP proxy, without a login, "
                'such as "http://proxy.example.org:3128"'
            )
        return NamedEndpoint(
            self._reactor,
            url.host,
            url.port,
            admit=lambda _: True,
            timeout=self._connect_timeout,
            role="the HTTP proxy ",
        )


@implementer(IAgentEndpointFactory)
class _Way:
    """The endpoint of one request, as Twisted's agent asks for it."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:  # noqa: N802
        return self._endpoint


def _announced(headers: Headers) -> int | None:
    """Return the Content-Length of an answer to HEAD, None where there is none or there are several."""
    values = {part.strip() for raw in headers.getRawHeaders(b"Content-Length") or () for part in raw.split(b",")}
    value = values.pop() if len(values) == 1 else b""
    return int(value) if value.isdigit() else None


def _broken(url: WebUrl, reasons: list[Failure]) -> DataMoverError:
    """Return the error for a connection that ended before it brought an answer."""
    for reason in reasons:
        error = reason.value
        if isinstance(error, OpenSSLError) and not isinstance(error, SysCallError) and "eof" not in words(error):
            return failed(url.host, words(error))
        if isinstance(error, ConnectionDone | TransportLost | ConnectionAborted | OpenSSLError):
            return ConnectionLost(f"the connection to {url.shown} broke before an answer came", scope=Scope.SOURCE)
    return ServerError(f"what {url.shown} answered is not HTTP/1.1", scope=Scope.SOURCE)
