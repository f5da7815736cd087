"""A file on a web server: inspect it, open it, resume an earlier read.

A read resumes at an offset only if the server proves that the file has not changed: its answer to the range carries
the same identity, or size and If-Range imply it. Nor may the file have changed at the end of the read.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial

from twisted.internet.interfaces import IReactorTime

from datamover.bounds.servers import IGNORED_BODY
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
    elsewhere,
    failure_of,
    holds_whole,
    if_range,
    inspection_of,
    ranges_given,
    starts,
    tells_total,
)
from datamover.protocols.http.client.body import BodyStream
from datamover.protocols.http.client.decoding import check_codings, decoded
from datamover.protocols.http.client.response import Response
from datamover.protocols.http.ranges import WORTH, RangedSource
from datamover.protocols.http.steady import SteadySource, Version, is_changed
from datamover.protocols.http.streams import Streams
from datamover.text.quantities import count
from datamover.web.url import WebUrl

Ask = Callable[[bytes, WebUrl, Mapping[str, str]], Awaitable[Response]]
"""Sends a request (method, URL, headers), follows redirects, and returns the last answer."""

_FINAL_FOR_HEAD = frozenset({407, 429, 503})
"""Statuses of a HEAD that a GET would get too; after any other refusal GET is tried."""
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed: what was read before them is kept."""


class WebOrigin:
    """The file at one URL."""

    def __init__(self, ask: Ask, url: WebUrl, clock: IReactorTime, streams: Streams) -> None:
        self._ask = ask
        self._url = url
        self._clock = clock
        self._streams = streams

    async def inspect(self) -> Inspection:
        """Return what the server says about the file, with HEAD; if it refuses that, with a GET that is dropped.

        Raises SourceNotFound, SourceForbidden, SourceNotAllowedHere, RateLimited, ServerError and connection errors.
        Cancelling drops the connection.
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
        if head.length is not None and head.length <= IGNORED_BODY:
            await body.discard()
        else:
            await body.close()
        return inspection_of(head)

    async def open(self, offset: int = 0, identity: str | None = None) -> Source:
        """Open the file at ``offset`` if it still has ``identity`` and the server serves ranges, else at 0.

        Raises what ``inspect`` raises. Cancelling drops the connection.
        """
        first = await self._resume(offset, identity) if offset > 0 and identity is not None else None
        first = first or _whole(*await self._get())
        source = self._splittable(first)
        if first.inspection.digests:  # These show a change, too.
            return source
        return SteadySource(source, self._clock, partial(self._check, first))

    async def _check(self, first: "WebSource") -> None:
        """Raise SourceChanged if the server now reports another version of the file than that of ``first``."""

        async def look() -> Head:
            reply = await self._ask(b"HEAD", first.url, {})
            await reply.body.close()
            return reply.head

        version = first.version
        if version and await is_changed(version, look):
            raise self._changed()

    def _changed(self) -> SourceChanged:
        return SourceChanged(f"{self._url.told} changed while it was read", scope=Scope.SOURCE)

    def _splittable(self, source: "WebSource") -> Source:
        """Return a source that may use several connections, if the file is large and the server serves ranges.

        A redirected file uses one: the next request may be redirected elsewhere.
        """
        size, ends = source.inspection.size, source.ends
        if size is None or ends is None:
            return source
        if ends == size and (
            size - source.offset < WORTH or not source.ranges or not if_range(source.inspection.identity or "")
        ):
            return source

        async def open_range(start: int, length: int) -> tuple[ContentRange, BodyStream]:
            try:
                return await self._range(source.inspection, ContentRange(start, start + length - 1, size))
            except DataMoverError:
                self._streams.refused(self._url)
                raise

        return RangedSource(source, ends, size, open_range, self._clock, partial(self._streams.join, self._url))

    async def _range(self, inspection: Inspection, wanted: ContentRange) -> tuple[ContentRange, BodyStream]:
        """Return the part that was answered, and its body. Raises SourceChanged if it is of another file."""
        identity = inspection.identity or ""
        given = wanted.total or 0
        for first in starts(wanted.first):
            headers = {"Range": f"bytes={first}-{wanted.last}", "If-Range": if_range(identity) or ""}
            reply = await self._ask(b"GET", self._url, headers)
            part = content_range(reply.head) if reply.head.status == PARTIAL else None
            same = part is not None and _same(reply.head, identity, wanted.total) is not None
            if part is not None and same and part.begins(wanted):
                return part, reply.body
            if reply.head.status not in (*WHOLE, PARTIAL, UNSATISFIABLE):
                await reply.body.discard()
                raise failure_of(reply.head)
            await reply.body.close()
            if part is not None and same and part.total == wanted.total:
                given = part.first
            elif wanted.total is None or not tells_total(reply.head, wanted.total):
                raise self._changed()
        raise elsewhere(self._url.told, wanted.first, given, Scope.SOURCE)

    async def _get(self) -> tuple[Head, BodyStream]:
        reply = await self._ask(b"GET", self._url, {})
        if not holds_whole(reply.head):
            await reply.body.discard()
            raise failure_of(reply.head)
        return await _file_in(reply)

    async def _resume(self, offset: int, identity: str) -> "WebSource | None":
        """Return the source at ``offset``, or at 0 if the server sent the whole file, None if it sent neither."""
        condition = if_range(identity)
        for first in starts(offset):
            headers = {"Range": f"bytes={first}-"}
            if condition is not None:
                headers["If-Range"] = condition
            reply = await self._ask(b"GET", self._url, headers)
            part = content_range(reply.head) if reply.head.status == PARTIAL else None
            if part is None or part.holds(offset):
                break
            await reply.body.close()
            self._streams.refused(self._url)
        else:
            return None
        if reply.head.status in WHOLE:
            return _whole(*await _file_in(reply))
        if reply.head.status == PARTIAL:
            await _check_announced(reply)
            inspection = continuation(reply.head, offset, identity)
            if part is not None and inspection is not None:
                skip = offset - part.first
                return WebSource(inspection, offset, part.last + 1 - offset, reply.body, reply.head, skip)
            await reply.body.close()
            return None
        await reply.body.discard()
        if reply.head.status in _PASSING or reply.head.status == 407:
            raise failure_of(reply.head)
        if reply.head.status != UNSATISFIABLE:
            return None  # Some servers refuse only ranges, with any status.
        inspection = await self.inspect()
        if (inspection.identity, inspection.size) == (identity, offset):
            return WebSource(inspection, offset, 0, None, reply.head)
        return None


class WebSource:
    """One body; checks its length against the announced one."""

    def __init__(
        self,
        inspection: Inspection,
        offset: int,
        length: int | None,
        body: BodyStream | None,
        head: Head,
        skip: int = 0,
    ) -> None:
        """``skip``: bytes of the body before ``offset``; they are not of its ``length``."""
        self.inspection = inspection
        self.offset = offset
        self._length = length
        self._body = body
        self._head = head
        self.ends = None if length is None else offset + length
        """The file's offset at the end of the body."""
        self._read = 0
        self._skip = skip

    @property
    def url(self) -> WebUrl:
        """The URL that answered."""
        return self._head.url

    @property
    def ranges(self) -> bool:
        """Whether the requested URL itself serves ranges."""
        return ranges_given(self._head) and self._head.url == self._head.asked

    @property
    def version(self) -> Version:
        """What is known of the file's version; nothing if no body came."""
        return Version() if self._body is None else Version.told(self._head) or Version.of(self.inspection)

    async def read(self) -> bytes:
        """Return the next bytes, b"" at the end.

        Raises ConnectionLost or SizeMismatch where the file ends before or after the size it was announced with, and
        Stalled when nothing comes for the idle timeout. Cancelling leaves the source fit only for ``close``.
        """
        data = await self._next()
        while self._skip and data:
            self._skip, data = max(0, self._skip - len(data)), data[self._skip :]
            data = data or await self._next()
        self._read += len(data)
        if self._length is not None and (self._read > self._length or (not data and self._read < self._length)):
            raise SizeMismatch(
                f"{self.url.told} announced {count(self._length, 'byte')} and sent "
                f"{'' if data else 'only '}{self._read}",
                scope=Scope.SOURCE,
            )
        return data

    async def _next(self) -> bytes:
        return await self._body.read() if self._body is not None else b""

    async def close(self) -> None:
        """Release the connection, closing it if the body was not read to its end. Completes when that is done."""
        if self._body is not None:
            await self._body.close()


def continuation(head: Head, offset: int, identity: str) -> Inspection | None:
    """Return the inspection of the file if a 206 holds its bytes from ``offset`` on, else None.

    If the answer ends before the file does, the rest is requested by If-Range from the same URL, which shows a change.
    """
    part = content_range(head)
    if part is None or part.total is None or not part.first <= offset <= part.last:
        return None
    if part.last + 1 < part.total and (if_range(identity) is None or head.url != head.asked):
        return None
    return _same(head, identity, part.total)


def _same(head: Head, identity: str, total: int | None) -> Inspection | None:
    """Return the inspection of the file that a 206 holds a range of, None if its identity differs."""
    if head.codings:  # It is a range of the coded bytes.
        return None
    inspection = inspection_of(head)
    if inspection.identity == identity:
        return inspection
    # An answer to If-Range may leave out what the client knows (RFC 9110 15.3.7): that it is a 206 says the same.
    silent = head.header("ETag") is None and head.header("Last-Modified") is None
    if silent and identity.startswith("date ") and identity.endswith(f" {total}"):
        return replace(inspection, identity=identity)
    return None


async def _file_in(reply: Response) -> tuple[Head, BodyStream]:
    """Return the head of an answer and its body as the file.

    Closes the answer and raises ServerError for a coding that is not supported, or a size that no file has.
    """
    body = await decoded(reply.head, reply.body)
    await _check_announced(reply)
    return reply.head, body


async def _check_announced(reply: Response) -> None:
    """Close an answer that announces more bytes than a file can have, and raise ServerError."""
    try:
        check_announced(reply.head)
    except ServerError:
        await reply.body.close()
        raise


def _whole(head: Head, body: BodyStream) -> WebSource:
    inspection = inspection_of(head)
    return WebSource(inspection, 0, inspection.size, body, head)
