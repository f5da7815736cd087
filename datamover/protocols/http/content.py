"""The whole answer to a small request, within a bound: how services are asked that know of data.

What is given may be any ``IResponse``. What its status means is for the caller to judge.
"""

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse

from datamover.errors import DatasetInvalid
from datamover.protocols.http.answers import Head
from datamover.web.url import WebUrl

LARGEST_ANSWER = 8 * 2**20
LARGEST_REFUSAL = 64 * 1024
"""Bytes of the words that go with an error's status which are looked at."""


def head_of(response: IResponse) -> Head:
    """Return the head of an answer; its URL is the one that answered, after redirects."""
    fields = {name.lower(): list(values) for name, values in response.headers.getAllRawHeaders()}
    length = None if response.length == UNKNOWN_LENGTH else response.length
    url = WebUrl.parse(response.request.absoluteURI.decode("ascii"))
    return Head(response.code, fields, length, url, url)


async def whole(response: IResponse, limit: int = LARGEST_ANSWER) -> tuple[Head, bytes]:
    """Return an answer's head and body; its connection is free, or gone, when this completes or raises.

    Raises DatasetInvalid for a body of more than ``limit`` bytes, and what ``Response.deliverBody`` fails with.
    Cancelling drops the connection.
    """
    head = head_of(response)
    body, error = await _collected(response, -1 if (head.length or 0) > limit else limit)
    if error is not None:
        raise error
    if len(body) > limit or (head.length or 0) > limit:
        raise DatasetInvalid(f"{head.url.told} answered with more than {limit} bytes")
    return head, body


async def beginning(response: IResponse, limit: int = LARGEST_REFUSAL) -> tuple[Head, bytes]:
    """Return an answer's head, and as much of its body as came, up to ``limit`` bytes; what breaks off is as good.

    Cancelling drops the connection.
    """
    body, _ = await _collected(response, limit)
    return head_of(response), body[:limit]


async def _collected(response: IResponse, most: int) -> tuple[bytes, BaseException | None]:
    """Return the body, or a little more than ``most`` bytes of it, and the error it broke off with."""
    collector = _Collector(most)
    waiting: Deferred[None] = Deferred()
    collector.gone.chainDeferred(waiting)
    response.deliverBody(collector)  # type: ignore[no-untyped-call]
    try:
        await waiting
    finally:
        if not collector.gone.called:
            collector.stop()
            await collector.gone
    return b"".join(collector.pieces), collector.error


class _Collector(Protocol):
    """Takes a body in until it is more than ``most`` bytes, then lets go of the connection."""

    def __init__(self, most: int) -> None:
        self.pieces: list[bytes] = []
        self.error: BaseException | None = None
        self.gone: Deferred[None] = Deferred()
        """Fires when the connection is free or gone."""
        self._most = most
        self._size = 0

    def connectionMade(self) -> None:  # noqa: N802
        self.dataReceived(b"")

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.pieces.append(data)
        self._size += len(data)
        if self._size > self._most:
            self.stop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        if self._size <= self._most and not isinstance(reason.value, ResponseDone | PotentialDataLoss):
            self.error = reason.value
        self.gone.callback(None)

    def stop(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()
