"""A file on the web: looked at, opened, taken up again where an earlier read ended.

An offset is honoured only where the server proves that the file is still the one it was: its answer to the range
carries the same identity, or its size and the condition that the range was asked under say so.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial

from twisted.internet.interfaces import IReactorTime

from datamover.errors import ConnectionLost, DataMoverError, Scope, ServerError, SizeMismatch, SourceChanged
from datamover.protocols.base import Inspection, Source
from datamover.protocols.http.answers import (
    PARTIAL,
    UNSATISFIABLE,
    WHOLE,
    ContentRange,
    Head,
    check_announced,
    content_range,
    failure_of,
    holds_whole,
    if_range,
    inspection_of,
    ranges_given,
)
from datamover.protocols.http.client.body import IGNORABLE, Content
from datamover.protocols.http.client.decoding import check_codings, decoded
from datamover.protocols.http.client.response import Response
from datamover.protocols.http.ranges import WORTH, RangedSource
from datamover.protocols.http.streams import Streams
from datamover.web.url import WebUrl

Ask = Callable[[bytes, WebUrl, Mapping[str, str]], Awaitable[Response]]
"""Sends method, URL and headers, follows redirects, and returns the last answer."""

_FINAL_FOR_HEAD = frozenset({407, 429, 503})
"""Refusals of a HEAD that a GET would meet as well; after any other the GET is tried."""


class WebOrigin:
    """The file at one URL."""

    def __init__(self, ask: Ask, url: WebUrl, clock: IReactorTime, streams: Streams) -> None:
        self._ask = ask
        self._url = url
        self._clock = clock
        self._streams = streams

    async def inspect(self) -> Inspection:
        """Look at the file with HEAD or, where the server knows no HEAD, with a GET that is given up.

        Raises SourceNotFound, SourceForbidden, SourceNotAllowedHere, RateLimited, ServerError and connection errors.
        """
        try:
            reply = await self._ask(b"HEAD", self._url, {})
        except ConnectionLost:
            pass  # Some servers hang up on a HEAD.
        else:
            head = reply.head
            await reply.body.close()
            if head.status in _FINAL_FOR_HEAD:
                raise failure_of(head)
            # Programs behind a web server often say 0 because they made no body.
            if holds_whole(head) and head.length != 0:
                check_codings(head)
                check_announced(head)
                return inspection_of(head)
        head, body = await self._get()
        if head.length is not None and head.length <= IGNORABLE:
            await body.discard()
        else:
            await body.close()
        return inspection_of(head)

    async def open(self, offset: int = 0, identity: str | None = None) -> Source:
        """Open the file from ``offset`` if it still has ``identity`` and the server can, else from 0.

        Raises what ``inspect`` raises. Cancelling drops the connection.
        """
        source = await self._resume(offset, identity) if offset > 0 and identity is not None else None
        return self._splittable(source or _whole(*await self._get()))

    def _splittable(self, source: "WebSource") -> Source:
        """Return a source that may be read over several connections, if it is large and the server can.

        Not one that was redirected to: the next request may be redirected elsewhere.
        """
        identity, size = source.inspection.identity, source.inspection.size
        if size is None or size - source.offset < WORTH or not source.ranges or not if_range(identity or ""):
            return source

        async def open_range(start: int, length: int) -> Content:
            try:
                return await self._range(source.inspection, ContentRange(start, start + length - 1, size))
            except DataMoverError:
                self._streams.refused(self._url)
                raise

        return RangedSource(source, size, open_range, self._clock, partial(self._streams.join, self._url))

    async def _range(self, inspection: Inspection, wanted: ContentRange) -> Content:
        """Return the body of a range of the file; raises SourceChanged too."""
        identity = inspection.identity or ""
        headers = {"Range": f"bytes={wanted.first}-{wanted.last}", "If-Range": if_range(identity) or ""}
        reply = await self._ask(b"GET", self._url, headers)
        if reply.head.status == PARTIAL:
            if content_range(reply.head) == wanted and _same(reply.head, identity, wanted.total) is not None:
                return reply.body
        elif reply.head.status not in (*WHOLE, UNSATISFIABLE):
            await reply.body.discard()
            raise failure_of(reply.head)
        await reply.body.close()
        raise SourceChanged(f"{self._url.told} changed while it was read", scope=Scope.SOURCE)

    async def _get(self) -> tuple[Head, Content]:
        reply = await self._ask(b"GET", self._url, {})
        if not holds_whole(reply.head):
            await reply.body.discard()
            raise failure_of(reply.head)
        return await _file_in(reply)

    async def _resume(self, offset: int, identity: str) -> "WebSource | None":
        """Return the source from ``offset`` on, or a whole one if that was sent instead, None where neither came."""
        headers = {"Range": f"bytes={offset}-"}
        condition = if_range(identity)
        if condition is not None:
            headers["If-Range"] = condition
        reply = await self._ask(b"GET", self._url, headers)
        if reply.head.status in WHOLE:
            return _whole(*await _file_in(reply))
        if reply.head.status == PARTIAL:
            await _check_announced(reply)
            inspection = continuation(reply.head, offset, identity)
            if inspection is not None and inspection.size is not None:
                return WebSource(inspection, offset, inspection.size - offset, reply.body, reply.head)
            await reply.body.close()
            return None
        await reply.body.discard()
        if reply.head.status != UNSATISFIABLE:
            raise failure_of(reply.head)
        inspection = await self.inspect()
        if (inspection.identity, inspection.size) == (identity, offset):
            return WebSource(inspection, offset, 0, None, reply.head)
        return None


class WebSource:
    """One body being read, and counted against what was announced."""

    def __init__(
        self, inspection: Inspection, offset: int, length: int | None, body: Content | None, head: Head
    ) -> None:
        self._inspection = inspection
        self._offset = offset
        self._length = length
        self._body = body
        self._url = head.url
        self.ranges = ranges_given(head) and head.url == head.asked
        """What was asked gives out ranges of it."""
        self._read = 0

    @property
    def inspection(self) -> Inspection:
        return self._inspection

    @property
    def offset(self) -> int:
        return self._offset

    async def read(self) -> bytes:
        """Return the next bytes, b"" at the end.

        Raises ConnectionLost or SizeMismatch where the file ends before or after the size it was announced with, and
        Stalled when nothing comes for the idle timeout. Cancelling leaves the source fit only for ``close``.
        """
        data = await self._body.read() if self._body is not None else b""
        self._read += len(data)
        if self._length is not None and (self._read > self._length or (not data and self._read < self._length)):
            raise SizeMismatch(
                f"{self._url.told} announced {self._length} bytes and sent {'' if data else 'only '}{self._read}",
                scope=Scope.SOURCE,
            )
        return data

    async def close(self) -> None:
        """Let go of the connection, dropping it if the body was not read to its end; completes when that is done."""
        if self._body is not None:
            await self._body.close()


def continuation(head: Head, offset: int, identity: str) -> Inspection | None:
    """Return the inspection of a file whose bytes from ``offset`` to the end a 206 holds, None where it is not so."""
    part = content_range(head)
    if part is None or part.total is None or (part.first, part.last + 1) != (offset, part.total):
        return None
    return _same(head, identity, part.total)


def _same(head: Head, identity: str, total: int | None) -> Inspection | None:
    """Return the inspection of a file that a 206 holds a range of, None where it has another identity."""
    if head.codings:  # It is a range of what is sent, not of the file.
        return None
    inspection = inspection_of(head)
    if inspection.identity == identity:
        return inspection
    # An answer to If-Range may leave out what the client knows (RFC 9110 15.3.7): that it is a 206 says the same.
    silent = head.header("ETag") is None and head.header("Last-Modified") is None
    if silent and identity.startswith("date ") and identity.endswith(f" {total}"):
        return replace(inspection, identity=identity)
    return None


async def _file_in(reply: Response) -> tuple[Head, Content]:
    """Return the head of an answer and the file that it holds whole; what cannot be read as one is closed.

    Raises ServerError for a coding that is not undone, and for a size that cannot be.
    """
    body = await decoded(reply.head, reply.body)
    await _check_announced(reply)
    return reply.head, body


async def _check_announced(reply: Response) -> None:
    """Close an answer that announces more than a file can have, and raise ServerError."""
    try:
        check_announced(reply.head)
    except ServerError:
        await reply.body.close()
        raise


def _whole(head: Head, body: Content) -> WebSource:
    inspection = inspection_of(head)
    return WebSource(inspection, 0, inspection.size, body, head)
