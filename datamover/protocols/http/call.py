"""A small request and its whole answer: how the services that know of data are asked, rather than a file read.

The answer's status is for the caller to judge; it travels by the same rules as a file does.
"""

from collections.abc import Callable
from dataclasses import dataclass

from datamover.errors import DataMoverError, DatasetInvalid
from datamover.protocols.http.answers import PARTIAL, UNSATISFIABLE, WHOLE, Head, retry_after
from datamover.protocols.http.client.decoding import decoded
from datamover.protocols.http.client.sender import Reply
from datamover.web.url import WebUrl

LARGEST_ANSWER = 8 * 2**20
LARGEST_REFUSAL = 64 * 1024
"""Bytes of the words that go with an error's status which are looked at."""

FILE = WHOLE | {PARTIAL, UNSATISFIABLE}
"""The statuses whose answers are about a file's bytes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole."""

    head: Head
    body: bytes

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def url(self) -> WebUrl:
        """What answered, after redirects."""
        return self.head.url

    def header(self, name: str) -> str | None:
        """Return a header's value, whatever the case of its name; None where there is none."""
        return self.head.header(name)

    @property
    def retry_after(self) -> float | None:
        """Seconds that Retry-After asks to wait, None where it does not."""
        return retry_after(self.head)


Refused = Callable[[Answer], DataMoverError]
"""Makes an error of an answer that holds no file."""


async def whole(reply: Reply, limit: int = LARGEST_ANSWER) -> Answer:
    """Read a reply to its end; its connection is free, or gone, when this completes or raises.

    Raises DatasetInvalid for a body of more than ``limit`` bytes, ServerError for one whose coding cannot be undone,
    ConnectionLost and Stalled. Cancelling drops the connection.
    """
    reply = await decoded(reply)
    try:
        return Answer(reply.head, await _read(reply, limit))
    except BaseException:
        await reply.body.close()
        raise


async def _read(reply: Reply, limit: int) -> bytes:
    pieces, size = [], 0 if reply.head.codings else reply.head.length or 0
    if size <= limit:
        size = 0
        while size <= limit and (piece := await reply.body.read()):
            pieces.append(piece)
            size += len(piece)
    if size > limit:
        raise DatasetInvalid(f"{reply.head.url.told} answered with more than {limit} bytes")
    return b"".join(pieces)


async def beginning(reply: Reply, limit: int = LARGEST_REFUSAL) -> Answer:
    """Return an answer of which no more than the first ``limit`` bytes matter; what breaks off is as good."""
    body = b""
    try:
        reply = await decoded(reply)
        while len(body) < limit and (piece := await reply.body.read()):
            body += piece
    except DataMoverError:
        pass
    finally:
        await reply.body.close()
    return Answer(reply.head, body[:limit])
