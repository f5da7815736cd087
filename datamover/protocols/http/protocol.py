"""The HTTP protocol: ``HttpClient`` opens files and makes requests, all by the ``[sources]`` rules.

``session`` follows redirects, ``client`` sends one request, ``origin`` reads a file out of the answers.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

from twisted.web.http_headers import Headers

from datamover.config import schema
from datamover.errors import DataMoverError
from datamover.protocols.base import Origin
from datamover.protocols.http.answers import PARTIAL, UNSATISFIABLE, WHOLE, Head
from datamover.protocols.http.client.agent import PolicyAgent
from datamover.protocols.http.client.response import Response
from datamover.protocols.http.content import beginning
from datamover.protocols.http.cookies import Jar
from datamover.protocols.http.origin import WebOrigin
from datamover.protocols.http.session import Narrowed, SessionAgent, headers_for
from datamover.protocols.http.streams import Streams
from datamover.protocols.http.treq_client import TreqClient
from datamover.protocols.tls.files import TlsFiles
from datamover.protocols.tls.verified import VerifiedTLS
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import Prefix, SourcePolicy
from datamover.web.url import WebUrl

Refused = Callable[[Head, bytes], DataMoverError]
"""Returns the error for an answer without a file, given its head and the beginning of its body."""

FILE = WHOLE | {PARTIAL, UNSATISFIABLE}
"""Statuses of answers about a file's bytes."""


class HttpClient:
    """Reads files from web servers, and makes requests with treq; it shares connections among all of them."""

    def __init__(
        self,
        reactor: Any,
        http: schema.Http,
        transfers: schema.Transfers,
        policy: SourcePolicy,
        credentials: SourceCredentials,
        *,
        narrowed: Mapping[str, Sequence[Prefix]] = MappingProxyType({}),
        file: str = "datamover.toml",
    ) -> None:
        """Prepare; nothing is connected yet. ``narrowed``: the clients that have rules of their own.

        Raises ConfigError, naming ``file``, for a bad proxy or ``ca_file``.
        """
        self._policy = policy
        self._narrowed = narrowed
        self._reactor = reactor
        self._agent = PolicyAgent(
            reactor,
            policy,
            credentials,
            connect_timeout=transfers.connect_timeout,
            idle_timeout=transfers.idle_timeout,
            tls=VerifiedTLS(TlsFiles("http", http.ca_file, shows=False, file=file), reactor.seconds),
            proxy=http.proxy,
            file=file,
        )
        self._streams = Streams(reactor, http.streams, self._agent.busy)

    def origin(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        refused: Refused | None = None,
        client: str | None = None,
    ) -> Origin:
        """Return the file at an http or https URL; nothing is requested yet.

        ``client``: its own rules apply to the URL and to every redirect. ``headers``: an Authorization is sent only to
        the URL's scheme, host and port. ``refused`` makes the errors for answers without a file. All requests for this
        file share one cookie jar. Raises InvalidRequest or UnsupportedScheme if ``url`` is not such a URL.
        """
        home = WebUrl.parse(url)
        session = self._session(client, Jar(self._reactor))

        async def ask(method: bytes, asked: WebUrl, own: Mapping[str, str]) -> Response:
            sent = {**headers_for(asked, headers or {}, home), **own}
            if method == b"HEAD":
                raw = Headers({name: [value] for name, value in sent.items()})
                answered = await TreqClient(session, self._reactor).head(asked.text, headers=raw)
                return cast(Response, answered.original)
            # treq would double the CPU time of a small file's request (docs/performance.md).
            response = await session.send(method, asked, sent)
            if refused is not None and response.code not in FILE:
                raise refused(*await beginning(response))
            return response

        return WebOrigin(ask, home, self._reactor, self._streams)

    def treq(self, client: str | None = None) -> TreqClient:
        """Return a treq client for small requests. Read the answers with ``content.whole`` or ``content.beginning``.

        ``client``: its own rules apply beside ``[sources]``. Redirects of GET and HEAD are followed; an Authorization
        or Cookie header is sent only to the URL's scheme, host and port.
        """
        return TreqClient(self._session(client, None), self._reactor)

    async def close(self) -> None:
        """Cancel all requests and close every connection. Completes when the sockets are closed."""
        await self._agent.close()

    def _session(self, client: str | None, jar: Jar | None) -> SessionAgent:
        rules = self._narrowed.get(client) if client is not None else None
        narrowed = None if client is None or rules is None else Narrowed(client, rules)
        return SessionAgent(self._agent, self._policy, self._reactor, narrowed=narrowed, jar=jar)
