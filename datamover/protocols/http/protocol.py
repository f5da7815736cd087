"""The door of this package: URLs become origins, services are called, and every request obeys ``[sources]``.

Redirects are followed here, by hand, so that each hop is judged and each login is sent only where it belongs. How
one request travels is ``sender``'s business, what its answer means for a file ``origin``'s.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from datamover.config import schema
from datamover.errors import InvalidRequest, Scope, ServerError, SourceNotAllowedHere, UnsupportedScheme
from datamover.protocols.base import Origin
from datamover.protocols.http.answers import REDIRECTS, Head
from datamover.protocols.http.call import FILE, LARGEST_ANSWER, Answer, Refused, beginning, whole
from datamover.protocols.http.client.sender import Reply, Sender
from datamover.protocols.http.cookies import Jar
from datamover.protocols.http.location import location_of, reference_of
from datamover.protocols.http.origin import WebOrigin
from datamover.protocols.http.streams import Streams
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import Prefix, SourcePolicy
from datamover.web.url import WebUrl

MOST_REDIRECTS = 20


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
        self._credentials = credentials
        self._reactor = reactor
        self._sender = Sender(
            reactor,
            policy,
            connect_timeout=transfers.connect_timeout,
            idle_timeout=transfers.idle_timeout,
            ca_file=http.ca_file,
            proxy=http.proxy,
            file=file,
        )
        self._streams = Streams(reactor, http.streams, self._sender.busy)

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
        errors of answers that hold no file, from their status and words. Cookies that are set on the way to it are
        sent on the way to it, as long as this file is read.
        """
        added, jar = headers or {}, Jar(self._reactor)

        async def ask(method: bytes, asked: WebUrl, own: Mapping[str, str]) -> Reply:
            reply = await self._ask(method, asked, {**added, **own}, jar, client=client)
            if refused is not None and reply.head.status not in FILE and method == b"GET":
                raise refused(await beginning(reply))
            return reply

        return WebOrigin(ask, WebUrl.parse(url), self._reactor, self._streams)

    async def call(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limit: int = LARGEST_ANSWER,
    ) -> Answer:
        """Send a small request and return the whole answer, whatever its status; a GET's redirects are followed.

        An Authorization among ``headers`` is sent to the URL's own scheme, host and port only. Raises DatasetInvalid
        for an answer of more than ``limit`` bytes, InvalidRequest and UnsupportedScheme for what is no URL,
        SourceNotAllowedHere, and what breaks on the way. Cancelling drops the connection.
        """
        reply = await self._ask(method.encode("ascii"), WebUrl.parse(url), headers or {}, Jar(self._reactor), body)
        return await whole(reply, limit)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, client: str | None = None) -> Answer:
        """Send ``body`` for ``client`` and return the answer with the beginning of its body; no redirect is followed.

        Raises InvalidRequest and UnsupportedScheme for what is no URL, SourceNotAllowedHere, and what breaks before
        the answer's head is here. Cancelling drops the connection.
        """
        jar = Jar(self._reactor)
        return await beginning(await self._ask(b"POST", WebUrl.parse(url), headers, jar, body, client=client))

    async def close(self) -> None:
        """Cancel what waits for an answer and drop every connection; completes when the sockets are gone."""
        await self._sender.close()

    async def _ask(
        self,
        method: bytes,
        asked: WebUrl,
        headers: Mapping[str, str],
        jar: Jar,
        body: bytes | None = None,
        *,
        client: str | None = None,
    ) -> Reply:
        """Send a request, follow where it is redirected, and return the last answer, whatever its status.

        Raises SourceNotAllowedHere for a hop that the rules refuse, ServerError for redirects that do not end, and
        what ``Sender.send`` raises.
        """
        if not self._policy.allows(asked):
            raise SourceNotAllowedHere(f"{asked.told} is not an allowed source: [sources] does not allow it")
        if not self._may_name(client, asked):
            raise SourceNotAllowedHere(f"{asked.told} is not an allowed source for client {client!r}")
        url = asked
        seen: set[tuple[WebUrl, str]] = set()
        for _ in range(MOST_REDIRECTS + 1):
            cookies = jar.header(url)
            if (url, cookies) in seen:  # With another cookie it is another question.
                withheld = jar.withheld(url)
                raise ServerError(
                    f"{asked.told} redirects in a circle, to {url.told} again{withheld and f'; {withheld}'}",
                    scope=Scope.SOURCE,
                )
            seen.add((url, cookies))
            sent = self._headers(url, headers, cookies, asked)
            reply = await self._sender.send(method, url, sent, asked=asked, body=body)
            jar.take(reply.head)
            location = location_of(reply.head) if reply.head.status in REDIRECTS else None
            if location is None or method not in (b"GET", b"HEAD"):
                return reply
            await reply.body.discard()
            url = self._target(reply.head, location, client)
        raise ServerError(f"{asked.told} redirects more than {MOST_REDIRECTS} times", scope=Scope.SOURCE)

    def _headers(self, url: WebUrl, headers: Mapping[str, str], cookies: str, asked: WebUrl) -> Mapping[str, str]:
        """Return what is sent to ``url`` of ``headers``, and with its login and cookies."""
        login = self._credentials.header_for(url)
        if not headers and login is None and not cookies:
            return headers
        sent = {
            name.lower(): (name, value)
            for name, value in headers.items()
            if name.lower() != "authorization" or url.origin == asked.origin
        }
        if login is not None:
            name, value = (part.decode("utf-8") for part in login)
            sent[name.lower()] = (name, value)
        if cookies:
            sent.setdefault("cookie", ("Cookie", cookies))
        return dict(sent.values())

    def _may_name(self, client: str | None, url: WebUrl) -> bool:
        """Tell whether a client's own rules allow a URL."""
        rules = self._narrowed.get(client) if client is not None else None
        return rules is None or any(rule.matches(url) for rule in rules)

    def _target(self, head: Head, location: bytes, client: str | None) -> WebUrl:
        """Return where a redirect leads, if it may be followed."""
        try:
            target = head.url.join(reference_of(location))
        except (InvalidRequest, UnsupportedScheme) as error:
            raise SourceNotAllowedHere(
                f"{head.url.told} redirects to what cannot be followed: {error.message}"
            ) from None
        if not self._policy.allows_hop(head.url, target):
            reason = (
                "which leaves https for http, and no rule in [sources] allow names it"
                if self._policy.allows(target)
                else "which [sources] does not allow"
            )
            raise SourceNotAllowedHere(f"{head.url.told} redirects to {target.told}, {reason}")
        if not self._may_name(client, target):
            raise SourceNotAllowedHere(
                f"{head.url.told} redirects to {target.told}, which the sources of client {client!r} do not allow: "
                "have the administrator add it to them"
            )
        return target
