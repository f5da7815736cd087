"""The body of an answer as the bytes of the file, where its server coded it though nobody asked for that.

It is undone as fast as it is read, in pieces of a bounded size, however well it was compressed.
"""

from datamover.errors import Scope, ServerError
from datamover.protocols.http.answers import Head
from datamover.protocols.http.client.body import Content
from datamover.protocols.http.client.codings import MOST, UNDONE, Inflater, Undecodable
from datamover.web.url import WebUrl

PIECE = 2**16
"""Bytes that are undone at a time."""


def check_codings(head: Head) -> None:
    """Raise ServerError for a body that is coded in a way that is not undone: as it comes it is another file."""
    for coding in head.codings:
        if coding not in UNDONE:
            raise ServerError(
                f"{head.url.told} was sent {coding}-compressed although the file itself was asked for: "
                "have the server honour Accept-Encoding: identity",
                scope=Scope.SOURCE,
            )
    if len(head.codings) > MOST:
        raise ServerError(
            f"{head.url.told} was sent {', '.join(head.codings)}-compressed: no more than {MOST} codings are undone",
            scope=Scope.SOURCE,
        )


async def decoded(head: Head, body: Content) -> Content:
    """Return the body as the file; one that cannot be undone is closed, and ServerError raised."""
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

    def __init__(self, body: Content, coding: str, url: WebUrl) -> None:
        self._body = body
        self._coding = coding
        self._url = url
        self._inflater = Inflater(coding)
        self._rest = b""
        """What came, and was not fed yet: of much at once, what is left would be copied again for each piece."""

    async def read(self) -> bytes:
        """Return the next bytes, b"" at the end.

        Raises ServerError where what comes is not what the coding says, or ends before it does, and what the body
        raises. Cancelling leaves it fit only for ``close``.
        """
        try:
            while not (data := self._inflater.read(PIECE)):
                came = self._rest or await self._body.read()
                if not came:
                    self._inflater.end()
                    return b""
                self._rest = came[PIECE:]
                self._inflater.feed(came[:PIECE])
        except Undecodable as error:
            raise ServerError(
                f"{self._url.told} was sent {self._coding}-compressed, and cannot be decompressed: {error}",
                scope=Scope.SOURCE,
            ) from None
        return data

    async def discard(self) -> None:
        await self._body.discard()

    async def close(self) -> None:
        await self._body.close()
