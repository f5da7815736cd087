"""Read the answer to a small request into memory, up to a limit. The caller judges the status.

It works on any ``IResponse``. treq's own ``content`` has no limit, and cancelling it leaves the connection open.
"""

from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse

from datamover.bounds.servers import LARGEST_ANSWER, LARGEST_REFUSAL
from datamover.errors import DatasetInvalid
from datamover.protocols.http.answers import Head
from datamover.web.url import WebUrl


def head_of(response: IResponse) -> Head:
    """Return the head of an answer. Its URL is the one that answered, after redirects."""
    fields = {name.lower(): list(values) for name, values in response.headers.getAllRawHeaders()}
    length = None if response.length == UNKNOWN_LENGTH else response.length
    url = WebUrl.parse(response.request.absoluteURI.decode("ascii"))
    return Head(response.code, fields, length, url, url)


class WholeAnswer(NamedTuple):
    """An answer that was read whole."""

    head: Head
    body: bytes


async def whole(response: IResponse, limit: int = LARGEST_ANSWER) -> WholeAnswer:
    """Return an answer's head and body.

    The connection is back in the pool, or closed, when this completes or raises.

    Raises DatasetInvalid for a body of more than ``limit`` bytes, and what ``Response.deliverBody`` fails with.
    Cancelling drops the connection.
    """
    head = head_of(response)
    body, error = await _collected(response, -1 if (head.length or 0) > limit else limit)
    if error is not None:
        raise error
    if len(body) > limit or (head.length or 0) > limit:
        raise DatasetInvalid(f"{head.url.told} answered with more than {limit} bytes")
    return WholeAnswer(head, body)


async def beginning(response: IResponse, limit: int = LARGEST_REFUSAL) -> tuple[Head, bytes]:
    """Return an answer's head and the first bytes of its body, at most ``limit``; an error while reading ends it early.

    The connection is back in the pool, or closed, when this completes. Cancelling drops the connection.
    """
    body, _ = await _collected(response, limit)
    return head_of(response), body[:limit]


async def _collected(response: IResponse, most: int) -> tuple[bytes, BaseException | None]:
    """Return the body, or its beginning of more than ``most`` bytes, and the error that ended it."""
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
    body = b"".join(collector.pieces)
    collector.pieces.clear()  # A reference cycle keeps the collector in memory for a while.
    return body, collector.error


class _Collector(Protocol):
    """Collects a body; beyond ``most`` bytes it closes the connection."""

    def __init__(self, most: int) -> None:
        self.pieces: list[bytes] = []
        self.error: BaseException | None = None
        self.gone: Deferred[None] = Deferred()
        """Fires when the connection is back in the pool or closed."""
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
