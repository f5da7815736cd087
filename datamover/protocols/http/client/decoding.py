"""Decode a body that its server compressed unasked, in pieces of a bounded size."""

from datamover.bounds.servers import MOST_CODINGS
from datamover.errors import Scope, ServerError
from datamover.protocols.http.answers import Head
from datamover.protocols.http.client.body import BodyStream
from datamover.protocols.http.client.codings import UNDONE, Inflater, Undecodable
from datamover.web.url import WebUrl

PIECE = 2**16
"""Bytes decoded at a time."""


def check_codings(head: Head) -> None:
    """Raise ServerError if a body has a coding that is not supported, or too many codings."""
    for coding in head.codings:
        if coding not in UNDONE:
            raise ServerError(
                f"{head.url.told} was sent {coding}-compressed although the file itself was asked for: "
                "have the server honour Accept-Encoding: identity",
                scope=Scope.SOURCE,
            )
    if len(head.codings) > MOST_CODINGS:
        raise ServerError(
            f"{head.url.told} was sent {', '.join(head.codings)}-compressed: "
            f"at most {MOST_CODINGS} codings are decoded",
            scope=Scope.SOURCE,
        )


async def decoded(head: Head, body: BodyStream) -> BodyStream:
    """Return a body without its codings; closes it and raises ServerError if they are not supported."""
    if not head.codings:
        return body
    try:
        check_codings(head)
    except ServerError:
        await body.close()
        raise
    for coding in reversed(head.codings):
        body = Decoded(body, coding, head.url)
    return body


class Decoded:
    """A body without one of its codings."""

    def __init__(self, body: BodyStream, coding: str, url: WebUrl) -> None:
        self._body = body
        self._coding = coding
        self._url = url
        self._inflater = Inflater(coding)
        self._rest = b""
        """Bytes that are not fed yet: fed all at once, the rest would be copied again for each piece."""

    async def read(self) -> bytes:
        """Return the next bytes, b"" at the end.

        Raises ServerError if the bytes do not fit the coding or are incomplete, and what the body raises. Cancelling
        leaves it fit only for ``close``.
        """
        read: list[bytes] = []
        size = 0
        try:
            while size < PIECE:
                if data := self._inflater.read(PIECE - size):
                    read.append(data)
                    size += len(data)
                if self._inflater.tired:
                    await self._body.turn()
                    self._inflater.rested()
                elif read:
                    break
                else:
                    came = self._rest or await self._body.read()
                    if not came:
                        self._inflater.end()
                        break
                    self._rest = came[PIECE:]
                    self._inflater.feed(came[:PIECE])
        except Undecodable as error:
            raise ServerError(
                f"{self._url.told} was sent {self._coding}-compressed, and cannot be decompressed: {error}",
                scope=Scope.SOURCE,
            ) from None
        return b"".join(read)

    async def turn(self) -> None:
        """Wait for a turn of the reactor for costly work on these bytes. May be cancelled."""
        await self._body.turn()

    async def discard(self) -> None:
        await self._body.discard()

    async def close(self) -> None:
        await self._body.close()
