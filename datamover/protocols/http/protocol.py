"""The door of this package: URLs become origins, services are asked by treq, and every request obeys ``[sources]``.

Redirects are ``session``'s business, how one request travels is ``client``'s, what an answer means for a file
``origin``'s.
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
from datamover.protocols.http.session import Narrowed, SessionAgent
from datamover.protocols.http.streams import Streams
from datamover.protocols.http.treq_client import TreqClient
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import Prefix, SourcePolicy
from datamover.web.url import WebUrl

Refused = Callable[[Head, bytes], DataMoverError]
"""Makes an error of an answer that holds no file: of its head and the beginning of its body."""

FILE = WHOLE | {PARTIAL, UNSATISFIABLE}
"""The statuses whose answers are about a file's bytes."""


class HttpClient:
    """Reads files from web servers; one is enough for a process."""

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
        """Prepare; nothing is connected yet. ``narrowed`` are the rules of clients that have some of their own.

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
            ca_file=http.ca_file,
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
        """Return the file at an http or https URL; raises InvalidRequest or UnsupportedScheme for what is none.

        It is read for ``client``: neither the URL nor what it redirects to is one that it may not name.
        An Authorization among ``headers`` is sent to the URL's own scheme, host and port only. ``refused`` makes the
        errors of answers that hold no file. Cookies that are set on the way to it are sent on the way to it, as long
        as this file is read.
        """
        added = headers or {}
        session = self._session(client, Jar(self._reactor))

        async def ask(method: bytes, asked: WebUrl, own: Mapping[str, str]) -> Response:
            if method == b"HEAD":
                sent = Headers({name: [value] for name, value in {**added, **own}.items()})
                answered = await TreqClient(session, self._reactor).head(asked.text, headers=sent)
                return cast(Response, answered.original)
            # treq costs a small file more than all else that is done of HTTP for it (docs/performance.md).
            response = await session.send(method, asked, {**added, **own})
            if refused is not None and response.code not in FILE:
                raise refused(*await beginning(response))
            return response

        return WebOrigin(ask, WebUrl.parse(url), self._reactor, self._streams)

    def treq(self, client: str | None = None) -> TreqClient:
        """Return treq's client, for small requests: read the answers with ``content.whole`` or ``content.beginning``.

        It goes where ``[sources]`` allow and, where ``client`` is given, that client's own rules. The redirects of GET
        and HEAD are followed; an Authorization is sent to the URL's own scheme, host and port only.
        """
        return TreqClient(self._session(client, None), self._reactor)

    async def close(self) -> None:
        """Cancel what waits for an answer and drop every connection; completes when the sockets are gone."""
        await self._agent.close()

    def _session(self, client: str | None, jar: Jar | None) -> SessionAgent:
        rules = self._narrowed.get(client) if client is not None else None
        narrowed = None if client is None or rules is None else Narrowed(client, rules)
        return SessionAgent(self._agent, self._policy, self._reactor, narrowed=narrowed, jar=jar)
