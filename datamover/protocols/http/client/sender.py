"""One request and its answer: which way it goes out, and what it means when none comes back.

Redirects, logins and ranges are the business of those who ask.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from OpenSSL.SSL import Error as OpenSSLError
from OpenSSL.SSL import SysCallError
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

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
from datamover.protocols.http.client.body import Body, Content
from datamover.protocols.http.client.connection import Broken, NoAnswer, StaleConnection
from datamover.protocols.http.client.endpoints import NamedEndpoint, TunnelEndpoint
from datamover.protocols.http.client.fields import Excessive, Malformed
from datamover.protocols.http.client.pool import NoConnection, Pool
from datamover.protocols.http.client.reader import LARGEST_HEAD, AnswerReader, HeadTooLarge
from datamover.protocols.http.client.request import request_of
from datamover.protocols.http.client.tls import VerifiedTLS, failed, words
from datamover.web.policy import SourcePolicy
from datamover.web.url import WebUrl


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the head is read, the body is coming and must be closed."""

    head: Head
    body: Content


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
        self._tls = VerifiedTLS(ca_file, file=file)
        self._proxy = None if proxy is None else self._proxy_endpoint(proxy, file)
        self._pool = Pool(reactor, connect_timeout=connect_timeout)
        self._closed = False

    async def send(
        self, method: bytes, url: WebUrl, headers: Mapping[str, str], *, asked: WebUrl, body: bytes | None = None
    ) -> Reply:
        """Send one request and return the answer once its head is here, whatever its status.

        It is sent again where a kept connection turns out to be closed.

        Raises ConnectFailed, TimedOut, Stalled, ConnectionLost, TLSFailed, AuthenticationFailed (the proxy),
        SourceNotAllowedHere (the address), ServerError (not HTTP) and InvalidRequest (a header that cannot be sent).
        Cancelling drops the connection.
        """
        proxied = self._proxied(url)
        target = url.text if proxied else url.path if url.query is None else f"{url.path}?{url.query}"
        request = request_of(method, target, url.authority, headers, body)
        received = Body(self._reactor, self._idle_timeout, url)
        answer = await self._answer(method, url, request, received, None if proxied else url.origin)
        return Reply(Head(answer.status, answer.fields, answer.length, asked, url), received)

    def busy(self, url: WebUrl) -> int:
        """Return how many connections to a URL's host, or to the proxy that is asked for it, serve a request now."""
        return self._pool.busy(None if self._proxied(url) else url.origin)

    async def close(self) -> None:
        """Cancel what waits, drop every connection and send nothing more; completes when the sockets are gone."""
        self._closed = True
        await self._pool.close()

    async def _answer(self, method: bytes, url: WebUrl, request: bytes, received: Body, key: Hashable) -> AnswerReader:
        while True:
            if self._closed:
                raise ConnectionLost(f"{url.told} is not asked any more: datamover is stopping", scope=Scope.SOURCE)
            try:
                connection = await self._pool.connection(key, lambda: self._endpoint(url))
                return await connection.ask(request, method, received, clock=self._reactor, timeout=self._idle_timeout)
            except StaleConnection:
                # The pool holds a few kept connections at most, and one that is made anew is never stale.
                continue
            except NoConnection as error:
                raise TimedOut(
                    f"no connection to {url.authority} within {error.args[0]:g} s", scope=Scope.SOURCE
                ) from None
            except NoAnswer as error:
                raise Stalled(f"{url.told} did not answer for {error.args[0]:g} s", scope=Scope.SOURCE) from None
            except HeadTooLarge:
                raise ServerError(
                    f"{url.told} answered with more than {LARGEST_HEAD} bytes of headers", scope=Scope.SOURCE
                ) from None
            except Malformed as error:
                again = not isinstance(error, Excessive)
                told = f"{url.told} cannot be read: {error}"
                raise ServerError(told, scope=Scope.SOURCE, retryable=again) from None
            except Broken as error:
                raise _broken(url, error.args[0]) from None

    def _proxied(self, url: WebUrl) -> bool:
        return self._proxy is not None and url.scheme == "http"

    def _endpoint(self, url: WebUrl) -> IStreamClientEndpoint:
        if self._proxy is not None:
            if url.scheme == "http":
                return self._proxy
            endpoint: IStreamClientEndpoint = TunnelEndpoint(self._proxy, url.host, url.port)
        else:
            endpoint = NamedEndpoint(
                self._reactor,
                url.host,
                url.port,
                admit=lambda address: self._policy.allows_address(url, address),
                timeout=self._connect_timeout,
            )
        if url.scheme == "https":
            endpoint = wrapClientTLS(self._tls.creator(url.host), endpoint)
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


def _broken(url: WebUrl, reason: BaseException | None) -> DataMoverError:
    """Return the error for a connection that ended before it brought an answer."""
    if isinstance(reason, OpenSSLError) and not isinstance(reason, SysCallError) and "eof" not in words(reason):
        return failed(url.host, words(reason))
    return ConnectionLost(f"the connection to {url.told} broke before an answer came", scope=Scope.SOURCE)
