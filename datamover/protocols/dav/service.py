"""Send requests to one WebDAV server, with its login; an answer that is no success raises ``DavRefused``."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer

from datamover.errors import ConnectionLost, Stalled
from datamover.protocols.base import Ability, Lack
from datamover.protocols.dav.address import DavAddress
from datamover.protocols.dav.documents import MultistatusParser, failure_in, said_in
from datamover.protocols.dav.login import DavLogin
from datamover.protocols.dav.looks import OLDEST, DavLook
from datamover.protocols.http.answers import REDIRECTS, Head
from datamover.protocols.http.client.agent import PolicyAgent
from datamover.protocols.http.client.decoding import decoded
from datamover.protocols.http.client.response import Response
from datamover.protocols.http.content import WholeAnswer, beginning, whole
from datamover.protocols.http.treq_client import TreqClient
from datamover.protocols.http_place import refused as http_place
from datamover.protocols.lacks import Lacks
from datamover.protocols.listings import in_time
from datamover.protocols.slices import SlicedWork, in_slices
from datamover.web.url import WebUrl

T = TypeVar("T")

MULTISTATUS = 207
LOGINS = 3
"""How often one request is sent at most, because its login was refused."""
PATIENCE = 600.0
"""Seconds that a server may go on with a request after its answer was lost."""
PAUSE = 1.0
"""Seconds between two looks at what it has done."""
PAUSES = (0.1, 15.0)
"""Seconds between two looks at a file that the server is at work on: the first, doubled each time, and the longest."""
BROKEN = 10.0
"""Seconds to wait for a file whose connection broke: the server itself may be down."""
_IMPATIENT = frozenset({502, 504, 524})
"""The statuses by which a proxy says that its server did not answer in time."""
_DIRECT = frozenset({"GET", "HEAD", "PUT"})
"""treq would double the CPU time of a small file's request (docs/performance.md); these are for files alone."""


class DavRefused(http_place.Refused):
    """The server refuses a request; ``inside`` is the status of a resource in a multistatus."""

    def __init__(self, head: Head, kind: str = "", message: str = "", *, inside: int | None = None) -> None:
        super().__init__(head, kind, message)
        if inside is not None:
            self.status = inside
        elif not self.said and message:
            self.said = message

    @property
    def missing(self) -> bool:
        return self.status in (404, 410)

    @property
    def location(self) -> str | None:
        """The target of a redirect, None for another answer."""
        return self.head.header("Location") if self.status in REDIRECTS else None


def answer_lost(error: Exception) -> bool:
    """Tell whether a request that failed may have been executed, or be under way."""
    if isinstance(error, DavRefused):
        return error.status in _IMPATIENT
    return isinstance(error, ConnectionLost | Stalled)


@dataclass(slots=True)
class Learnt:
    """What was learnt of one server; both sides share it."""

    lacks: Lacks
    directories: dict[str, None] = field(default_factory=dict)
    """Paths of directories that exist, the longest known first."""
    tagged: bool | None = None
    """Whether PROPFIND returns ETags; None: unknown."""
    finds: bool = True
    """Whether it supports PROPFIND."""
    checksums: bool = False
    """Whether it stores OC-Checksum."""
    expects: bool = True
    """Whether it accepts the header Expect."""
    destination: int = 0
    """The index of the form in ``DavAddress.destinations`` that it understands."""
    inner: DavAddress | None = None
    """Its root as a Destination must name it, if a proxy changes the paths of requests only."""
    conditional: bool = False
    """Whether MOVE replaces a file only if that has the ETag in the header If (RFC 4918 10.4)."""
    doubtful: bool | None = None
    """Whether it returns ETags for directories, or a file for a path below that file (lighttpd); None: unknown."""

    def without(self, found: DavLook, modified: float | None) -> tuple[Lack, ...]:
        """Return what could not be done for a file that was to have this time (POSIX seconds)."""
        if modified is None or found.modified is None:
            return ()
        if found.modified == int(modified):
            self.lacks.saw(Ability.SET_MODIFIED)
            return ()
        if modified <= OLDEST:
            return (Lack(Ability.SET_MODIFIED, "the time is before 1970, or too near to it for the server"),)
        return (self.lacks.learn(Ability.SET_MODIFIED, "the server sets its own (it ignores X-OC-Mtime)"),)


class DavService:
    """Sends the requests to one server."""

    def __init__(self, agent: PolicyAgent, address: DavAddress, login: DavLogin, reactor: Any) -> None:
        self.address = address
        self._agent = agent
        self._treq = TreqClient(agent, reactor)
        self._login = login
        self._reactor = reactor

    def at(self, address: DavAddress) -> "DavService":
        """Return the service for another collection of the same server, with the same login."""
        return DavService(self._agent, address, self._login, self._reactor)

    def seconds(self) -> float:
        """Return the time of a monotonic clock."""
        now: float = self._reactor.seconds()
        return now

    async def wait(self, seconds: float) -> None:
        """Wait so many seconds."""
        waiting: Deferred[None] = deferLater(self._reactor, seconds)
        await waiting

    async def run(self, steps: Generator[None, None, T]) -> T:
        """Do work on what the server sent in slices, and return its result."""
        return await in_slices(self._reactor, steps)

    async def ask(
        self,
        method: str,
        url: WebUrl,
        headers: Mapping[str, str] | None = None,
        body: bytes | IBodyProducer | None = None,
    ) -> WholeAnswer:
        """Send a request and return its answer, read whole.

        Raises Refused for an answer that is no success or has a failure in a multistatus, and what ``PolicyAgent.send``
        raises. Cancelling drops the connection.
        """
        response = await self.send(method, url, headers, body)
        head, content = await whole(response)
        if head.status == MULTISTATUS:
            try:
                inside = await self.run(failure_in(content))
            except http_place.Unreadable:
                inside = 500
            if inside is not None:
                raise DavRefused(response.head, inside=inside)
        return WholeAnswer(response.head, content)

    async def find(self, url: WebUrl, depth: int, properties: bytes, parser: MultistatusParser) -> Head:
        """Feed ``parser`` with the properties of a resource, with ``depth`` 1 also of its members; return the head.

        Raises Refused, what ``PolicyAgent.send`` raises, and TimedOut for an answer without end.
        """
        headers = {"Depth": str(depth), "Content-Type": "application/xml; charset=utf-8"}
        response = await self.send("PROPFIND", url, headers, properties)
        if response.code != MULTISTATUS:
            await response.body.close()
            told = f"expected status {MULTISTATUS}, got {response.code}: is the URL one of WebDAV, and the login right?"
            raise http_place.Unreadable(told)
        await in_time(self._feed(response, parser), self._reactor)
        return response.head

    async def _feed(self, response: Response, parser: MultistatusParser) -> None:
        body, slices = await decoded(response.head, response.body), SlicedWork(self._reactor)
        try:
            while data := await body.read():
                await slices.run(parser.feed(data))
            parser.finish()
        finally:
            await body.close()

    async def send(
        self,
        method: str,
        url: WebUrl,
        headers: Mapping[str, str] | None = None,
        body: bytes | IBodyProducer | None = None,
    ) -> Response:
        """Send a request and return its answer once its head is here; raises what ``ask`` does.

        If the server redirects a collection's URL to the one with "/" at its end, that is requested, whatever host the
        redirect names (behind a proxy it may be another); no other redirect is followed.
        """
        refused = await self._sent(method, url, headers or {}, body)
        location = refused.location if isinstance(refused, DavRefused) and method not in _DIRECT else None
        if location and location.endswith(f"/{url.path.rpartition('/')[2]}/"):
            slashed = WebUrl(url.scheme, url.host, url.port, f"{url.path}/", url.query)
            refused = await self._sent(method, slashed, headers or {}, body)
        if isinstance(refused, DavRefused):
            raise refused
        return refused

    async def _sent(
        self, method: str, url: WebUrl, headers: Mapping[str, str], body: bytes | IBodyProducer | None
    ) -> Response | DavRefused:
        target = url.path if url.query is None else f"{url.path}?{url.query}"
        for _ in range(LOGINS):
            authorization = await self._login.header(method, target)
            sent = headers if authorization is None else {**headers, "Authorization": authorization}
            if method in _DIRECT:
                response = await self._agent.send(method.encode("ascii"), url, sent, body)
            else:
                raw = Headers({name: [value] for name, value in sent.items()})
                answered = await self._treq.request(method, url.text, headers=raw, data=body)
                response = cast(Response, answered.original)
            if 200 <= response.code < 300:
                self._login.accepted(response.head)
                return response
            head, said = await beginning(response)
            refused = DavRefused(response.head, *said_in(said))
            if head.status != 401 or not await self._login.refused(response.head, authorization):
                return refused
            if getattr(body, "begun", False):
                raise ConnectionLost("the server asked for the login again while a file was sent to it")
        return refused
