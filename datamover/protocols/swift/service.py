"""Send requests to one Swift account, with the session's token; an answer that is no success raises ``Refused``."""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode

from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer

from datamover.protocols.http.answers import READ
from datamover.protocols.http.client.agent import PolicyAgent
from datamover.protocols.http.client.response import Response
from datamover.protocols.http.content import WholeAnswer, beginning, whole
from datamover.protocols.http.treq_client import TreqClient
from datamover.protocols.http_place.refused import Refused
from datamover.protocols.slices import in_slices
from datamover.protocols.swift.login.session import Session
from datamover.text.pages import words_of
from datamover.web.url import WebUrl

T = TypeVar("T")

Query = Iterable[tuple[str, str]]
Body = bytes | IBodyProducer | None

_DIRECT = frozenset({"GET", "HEAD", "PUT"})
"""Methods that are sent without treq, which would double the CPU time of small files (docs/performance.md)."""


@dataclass(frozen=True, slots=True)
class Name:
    """A container, or an object in it."""

    container: str
    object: str = ""

    def __str__(self) -> str:
        """Return it as headers and manifests have it, not encoded."""
        return f"/{self.container}/{self.object}"

    @property
    def encoded(self) -> str:
        """Return it percent-encoded, except letters, digits, "-", ".", "_", "~" and "/"."""
        return quote(f"/{self.container}/{self.object}" if self.object else f"/{self.container}")


ACCOUNT = Name("")


class SwiftService:
    """Sends the requests for one account."""

    def __init__(self, agent: PolicyAgent, session: Session, reactor: Any) -> None:
        self._agent = agent
        self._treq = TreqClient(agent, reactor)
        self._session = session
        self._reactor = reactor

    async def run(self, steps: Generator[None, None, T]) -> T:
        """Do work on what the service sent in slices, and return its result."""
        return await in_slices(self._reactor, steps)

    async def ask(
        self,
        method: str,
        name: Name,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        *,
        extra: float = 0.0,
    ) -> WholeAnswer:
        """Send a request and return its answer, read whole. A ``body`` that is a producer must be repeatable.

        ``extra``: seconds that a PUT may take beyond ``idle_timeout``, for work of the service.

        Raises Refused for an answer that is no success, and what ``Session.get`` and ``PolicyAgent.send`` raise.
        Cancelling drops the connection.
        """
        response = await self._send(method, name, query, headers or {}, body, extra)
        _, content = await whole(response)
        return WholeAnswer(response.head, content)

    async def get(self, name: Name, headers: Mapping[str, str]) -> Response:
        """Return the answer to the GET of an object once its head is here; raises what ``ask`` does."""
        response = await self._send("GET", name, (), headers, None)
        if response.code not in READ:
            raise await _refused(response)
        return response

    async def url_of(self, name: Name) -> str:
        """Return the URL of the account, a container or an object. Raises what ``Session.get`` raises."""
        account = (await self._session.get()).account
        return account.text.rstrip("/") + (name.encoded if name.container else "")

    async def _send(
        self, method: str, name: Name, query: Query, headers: Mapping[str, str], body: Body, extra: float = 0.0
    ) -> Response:
        access = await self._session.get()
        text = urlencode(list(query), quote_via=quote) or None
        again = True
        while True:
            account = access.account
            path = account.path.rstrip("/") + (name.encoded if name.container else "")
            url = WebUrl(account.scheme, account.host, account.port, path, text)
            sent = {**headers, "X-Auth-Token": access.token}
            if method in _DIRECT:
                response = await self._agent.send(method.encode("ascii"), url, sent, body, extra=extra)
            else:
                raw = Headers({key: [value] for key, value in sent.items()})
                response = cast(Response, (await self._treq.request(method, url.text, headers=raw, data=body)).original)
            if 200 <= response.code < 300:
                return response
            refused = await _refused(response)
            if refused.status != 401 or not again:
                raise refused
            # The token has expired or was revoked. Another request may have renewed it already.
            again, access = False, await self._session.get(refused=access)


async def _refused(response: Response) -> Refused:
    head, body = await beginning(response)
    return Refused(head, message=words_of(body))
