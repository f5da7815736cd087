"""A file at a server: inspect it, open it, resume an earlier read, over several connections if possible."""

from dataclasses import replace
from functools import partial

from twisted.internet.interfaces import IReactorTime

from datamover.errors import DataMoverError
from datamover.protocols.base import Inspection, Source
from datamover.protocols.http.answers import (
    PARTIAL,
    UNSATISFIABLE,
    ContentRange,
    content_range,
    elsewhere,
    ranges_given,
    starts,
    tells_total,
)
from datamover.protocols.http.client.body import BodyStream
from datamover.protocols.http.client.response import Response
from datamover.protocols.http.ranges import WORTH, RangedSource, first_range
from datamover.protocols.http.streams import Streams
from datamover.protocols.http_place.refused import Refused
from datamover.protocols.http_place.seam import Found, Resources
from datamover.protocols.http_place.source import ResourceSource, WordedSource
from datamover.web.amounts import movable


class ResourceOrigin:
    """``protocols.base.Origin`` of one file."""

    def __init__(self, resources: Resources, path: str, clock: IReactorTime, streams: Streams) -> None:
        self._resources = resources
        self._path = path
        self._clock = clock
        self._streams = streams

    async def inspect(self) -> Inspection:
        found = await self._resources.inspect(self._path)
        if found is None:
            raise self._resources.refusals.missing(self._path)
        movable(found.size, lambda: self._resources.refusals.what(self._path))
        return found

    async def open(self, offset: int = 0, identity: str | None = None) -> Source:
        if not self._path:
            raise self._resources.refusals.directory(self._path)
        source = await self._resumed(offset, identity) if offset and identity is not None else None
        return source or self._wide(*await self._get())

    async def _resumed(self, offset: int, identity: str) -> Source | None:
        """Return the source at ``offset``, None where the file is another or has no more than ``offset`` bytes."""
        try:
            response = await self._from_offset(offset)
        except Refused as refusal:
            if refusal.status != UNSATISFIABLE:
                raise await self._why(refusal) from refusal
            there = await self.inspect()
            # There is nothing left to read of one that ends at the offset.
            ended = (there.identity, there.size) == (identity, offset)
            return ResourceSource(self._resources.refusals, self._path, there, offset, None, 0, None) if ended else None
        if response is None:
            return None
        found = self._resources.found(self._path, response.head)
        if _is_part(response):
            part = _beginning(found, response, offset)
            begins, usable = offset if part is None else part.first, part is not None
        else:
            # The server gives no ranges: what was read before is read once more, and dropped.
            begins, usable = 0, (found.inspection.size or 0) >= offset
        if not usable or found.inspection.identity != identity:
            await response.body.close()
            return None
        return self._wide(found, response, offset, begins)

    async def _from_offset(self, offset: int) -> Response | None:
        """Return an answer that holds the byte at an offset, or all; None if there is none. Raises Refused."""
        for first in starts(offset):
            response = await self._resources.get(self._path, self._from(first, offset))
            part = content_range(response.head)
            if part is None or part.holds(offset):
                return response
            await response.body.close()
            self._streams.refused(response.head.url)
        return None

    async def _get(self) -> tuple[Found, Response | None]:
        try:
            found, response = await self._begin()
        except Refused as refusal:
            raise await self._why(refusal) from refusal
        try:
            if response is not None and not _is_part(response):
                found = await self._measured(found, response)
            movable(found.inspection.size, lambda: self._resources.refusals.what(self._path))
        except BaseException:
            if response is not None:
                await response.body.close()
            raise
        return found, response

    async def _measured(self, found: Found, response: Response) -> Found:
        """Return what was found, with the size that a look tells if the answer has no length, or is compressed.

        Without a length, the end of a broken connection looks like that of the file. A proxy may compress what it was
        asked to send as it is; what is stored compressed has that size.
        """
        if found.inspection.size is not None and not response.head.codings:
            return found
        there = await self._resources.inspect(self._path)
        size = found.inspection.size if there is None or there.size is None else there.size
        return replace(found, inspection=replace(found.inspection, size=size))

    async def _begin(self) -> tuple[Found, Response | None]:
        """Return the answer with the whole file, or with its first bytes if the rest can be read. Raises Refused.

        None for an empty file, of which the refusal of a range told all: Swift's does, S3's does not.
        """
        if headers := self._from(0):
            try:
                response = await self._resources.get(self._path, headers)
            except Refused as refusal:
                if refusal.status != UNSATISFIABLE:  # An empty file has no first bytes.
                    raise
                found = self._resources.found(self._path, refusal.head)
                if found.inspection.size == 0 and found.inspection.identity is not None:
                    return found, None
            else:
                found = self._resources.found(self._path, response.head)
                if not _is_part(response) or _beginning(found, response, 0) is not None:
                    return found, response
                await response.body.close()
        response = await self._resources.get(self._path, {})
        found = self._resources.found(self._path, response.head)
        if _is_part(response) and _beginning(found, response, 0) is None:
            await response.body.close()
            raise self._resources.refusals.part(self._path)
        return found, response

    def _from(self, first: int, offset: int = 0) -> dict[str, str]:
        """Return the headers of the first request: for a part of the file if the server is known to serve ranges.

        It is asked for from ``first`` on, of which the bytes from ``offset`` on are wanted.
        """
        if self._resources.serves_ranges and not self._streams.any_refused:
            return {"Range": f"bytes={first}-{offset + first_range() - 1}"}
        return {"Range": f"bytes={first}-"} if offset else {}

    async def _why(self, refusal: Refused) -> DataMoverError:
        """Return the error for a refusal; a directory is told from what is not there."""
        if refusal.missing:
            found = await self._resources.inspect(self._path)
            if found is not None and found.directory:
                return self._resources.refusals.directory(self._path)
            if found is not None:
                return self._resources.refusals.withheld(self._path, refusal)
        return self._resources.refusals.of(refusal, self._path)

    def _wide(self, found: Found, response: Response | None, offset: int = 0, begins: int = 0) -> Source:
        """Return a source that may use several connections where the file is large and the server gives ranges."""
        refusals, inspection, size = self._resources.refusals, found.inspection, found.inspection.size
        if response is None:
            return ResourceSource(refusals, self._path, inspection, 0, None, 0, 0)
        part = _beginning(found, response, offset)
        ends = size if part is None else part.last + 1
        coded = part is None and bool(response.head.codings)
        stream = ResourceSource(refusals, self._path, inspection, offset, response.body, offset - begins, ends, coded)
        whole = ends == size and (size is None or size - offset < WORTH)
        if size is None or ends is None or whole or coded or not ranges_given(response.head) or not found.condition:
            return stream
        url = response.head.url

        async def open_range(start: int, length: int) -> tuple[ContentRange, BodyStream]:
            try:
                return await self._range(found, ContentRange(start, start + length - 1, size))
            except DataMoverError:
                self._streams.refused(url)
                raise

        wide = RangedSource(stream, ends, size, open_range, self._clock, partial(self._streams.join, url))
        return WordedSource(wide, refusals, self._path)

    async def _range(self, found: Found, wanted: ContentRange) -> tuple[ContentRange, BodyStream]:
        refusals, total = self._resources.refusals, wanted.total or 0
        given = total
        for first in starts(wanted.first):
            headers = {"Range": f"bytes={first}-{wanted.last}", **found.condition}
            try:
                response = await self._resources.get(self._path, headers)
            except Refused as refusal:
                if tells_total(refusal.head, total):
                    continue
                if refusal.missing or refusal.status in (412, UNSATISFIABLE):
                    raise refusals.changed(self._path) from refusal
                raise refusals.of(refusal, self._path) from refusal
            same = self._resources.found(self._path, response.head).condition == found.condition
            part = content_range(response.head)
            if same and part is not None and part.begins(wanted):
                return part, response.body
            await response.body.close()
            if not same or part is None or part.total != wanted.total:
                raise refusals.changed(self._path)
            given = part.first
        raise elsewhere(refusals.what(self._path), wanted.first, given, refusals.side)


def _is_part(response: Response) -> bool:
    """Tell whether the answer is a range; some services send one with status 200."""
    return response.head.status == PARTIAL or content_range(response.head) is not None


def _beginning(found: Found, response: Response, offset: int) -> ContentRange | None:
    """Return the range that was answered if it has what is at ``offset`` and the rest can be requested, else None."""
    part = content_range(response.head)
    if part is None or part.total is None or not part.first <= offset <= part.last:
        return None
    return part if part.last + 1 == part.total or found.condition else None
