"""The redirects of one file or one request, and their cookies.

Twisted's redirect agents do not know the ``[sources]`` rules, which judge each hop by the one before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IBodyProducer

from datamover.bounds.servers import MOST_REDIRECTS
from datamover.errors import InvalidRequest, Scope, ServerError, SourceNotAllowedHere, UnsupportedScheme
from datamover.protocols.http.answers import REDIRECTS, Head
from datamover.protocols.http.client.agent import PolicyAgent, UrlAgent
from datamover.protocols.http.client.response import Response
from datamover.protocols.http.cookies import Jar
from datamover.protocols.http.location import location_of, reference_of
from datamover.web.policy import Prefix, SourcePolicy
from datamover.web.url import WebUrl

_LOGINS = frozenset({"authorization", "cookie"})


@dataclass(frozen=True, slots=True)
class Narrowed:
    """The rules that a client has in addition to ``[sources]``."""

    client: str
    rules: Sequence[Prefix]

    def allows(self, url: WebUrl) -> bool:
        return any(rule.matches(url) for rule in self.rules)


class SessionAgent(UrlAgent):
    """Wraps a ``PolicyAgent``; follows the redirects of GET and HEAD, and returns those of other methods."""

    def __init__(
        self,
        agent: PolicyAgent,
        policy: SourcePolicy,
        clock: IReactorTime,
        *,
        narrowed: Narrowed | None = None,
        jar: Jar | None = None,
    ) -> None:
        """Send with ``agent``. ``jar`` is shared by all requests; None: each request has its own."""
        self._agent = agent
        self._policy = policy
        self._clock = clock
        self._narrowed = narrowed
        self._jar = jar

    async def send(
        self,
        method: bytes,
        url: WebUrl,
        headers: Mapping[str, str] = MappingProxyType({}),
        body: bytes | IBodyProducer | None = None,
    ) -> Response:
        """Send a request, follow redirects, and return the last answer, whatever its status.

        Raises SourceNotAllowedHere for a hop that the rules refuse, ServerError for redirects that do not end, and
        what ``PolicyAgent.send`` raises. Cancelling drops the connection.
        """
        asked, jar = url, self._jar or Jar(self._clock)
        if self._narrowed is not None and not self._narrowed.allows(asked):
            self._agent.check(asked)
            raise SourceNotAllowedHere(f"{asked.told} is not an allowed source for client {self._narrowed.client!r}")
        seen: list[tuple[WebUrl, str]] = []
        for _ in range(MOST_REDIRECTS + 1):
            cookies = jar.header(url)
            if (url, cookies) in seen:  # With other cookies it is another request.
                withheld = jar.withheld(url)
                raise ServerError(
                    f"{asked.told} redirects in a loop, to {url.told} again{withheld and f'; {withheld}'}",
                    scope=Scope.SOURCE,
                )
            seen.append((url, cookies))
            sent = _with_cookies(headers_for(url, headers, asked), cookies)
            response = await self._agent.send(method, url, sent, body, asked=asked)
            jar.take(response.head)
            location = location_of(response.head) if response.head.status in REDIRECTS else None
            if location is None or method not in (b"GET", b"HEAD"):
                return response
            await response.body.discard()
            url = self._target(response.head, location)
        raise ServerError(f"{asked.told} redirects more than {MOST_REDIRECTS} times", scope=Scope.SOURCE)

    def _target(self, head: Head, location: bytes) -> WebUrl:
        """Return the target of a redirect; raises SourceNotAllowedHere if it may not be followed."""
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
        if self._narrowed is not None and not self._narrowed.allows(target):
            raise SourceNotAllowedHere(
                f"{head.url.told} redirects to {target.told}, which the sources of client {self._narrowed.client!r} "
                "do not allow: have the administrator add it to them"
            )
        return target


def headers_for(url: WebUrl, headers: Mapping[str, str], home: WebUrl) -> Mapping[str, str]:
    """Return the headers for a request to ``url``: no logins unless it has the scheme, host and port of ``home``."""
    if url.origin == home.origin:
        return headers
    return {name: value for name, value in headers.items() if name.lower() not in _LOGINS}


def _with_cookies(headers: Mapping[str, str], cookies: str) -> Mapping[str, str]:
    if cookies and not any(name.lower() == "cookie" for name in headers):
        headers = {**headers, "Cookie": cookies}
    return headers
