"""An object being read, over one connection or several."""

from functools import partial

from twisted.internet.interfaces import IReactorTime

from datamover.errors import DataMoverError
from datamover.protocols.base import Inspection, Octets, Source
from datamover.protocols.http.answers import PARTIAL, ContentRange, content_range, ranges_given
from datamover.protocols.http.client.body import BodyStream
from datamover.protocols.http.client.response import Response
from datamover.protocols.http.ranges import WORTH, RangedSource
from datamover.protocols.http.streams import Streams
from datamover.protocols.s3.bucket import Bucket
from datamover.protocols.s3.objects import Found, found_in
from datamover.protocols.s3.service import Refused
from datamover.web.amounts import movable

UNSATISFIABLE = 416


class S3Origin:
    """``protocols.base.Origin`` of an object."""

    def __init__(self, bucket: Bucket, path: str, clock: IReactorTime, streams: Streams) -> None:
        self._bucket = bucket
        self._path = path
        self._clock = clock
        self._streams = streams

    async def inspect(self) -> Inspection:
        found = await self._bucket.inspect(self._path)
        if found is None:
            raise self._bucket.refusals.missing(self._path)
        movable(found.size, self._bucket.refusals.what(self._path))
        return found

    async def open(self, offset: int = 0, identity: str | None = None) -> Source:
        if not self._path:
            raise self._bucket.refusals.directory(self._path)
        source = await self._resumed(offset, identity) if offset and identity is not None else None
        return source or self._wide(*await self._get())

    async def _resumed(self, offset: int, identity: str) -> Source | None:
        """Return the source at ``offset``, None where the object is another or has no more than ``offset`` bytes."""
        try:
            response = await self._bucket.get(self._path, {"Range": f"bytes={offset}-"})
        except Refused as refusal:
            if refusal.status != UNSATISFIABLE:
                raise await self._why(refusal) from refusal
            there = await self.inspect()
            # There is nothing left to read of one that ends at the offset.
            ended = (there.identity, there.size) == (identity, offset)
            return ObjectSource(self._bucket, self._path, there, offset, None, 0) if ended else None
        found = found_in(self._path, response.head)
        begins = offset
        part = content_range(response.head)
        if part is not None or response.head.status == PARTIAL:
            usable = part is not None and (part.first, part.last + 1) == (offset, part.total)
        else:
            # The service gives no ranges: what was read before is read once more, and dropped.
            begins, usable = 0, (found.inspection.size or 0) >= offset
        if not usable or found.inspection.identity != identity:
            await response.body.close()
            return None
        return self._wide(found, response, offset, begins)

    async def _get(self) -> tuple[Found, Response]:
        try:
            response = await self._bucket.get(self._path, {})
        except Refused as refusal:
            raise await self._why(refusal) from refusal
        found = found_in(self._path, response.head)
        try:
            movable(found.inspection.size, self._bucket.refusals.what(self._path))
        except DataMoverError:
            await response.body.close()
            raise
        return found, response

    async def _why(self, refusal: Refused) -> DataMoverError:
        """Return the error for a refusal; a directory is told from what is not there."""
        if refusal.status == 404 and refusal.code in ("", "NoSuchKey"):
            found = await self._bucket.inspect(self._path)
            if found is not None and found.directory:
                return self._bucket.refusals.directory(self._path)
        return self._bucket.refusals.of(refusal, self._path)

    def _wide(self, found: Found, response: Response, offset: int = 0, begins: int = 0) -> Source:
        """Return a source that may use several connections where the object is large and the service gives ranges."""
        size = found.inspection.size
        stream = ObjectSource(self._bucket, self._path, found.inspection, offset, response.body, offset - begins)
        if size is None or size - offset < WORTH or not ranges_given(response.head) or not found.etag:
            return stream
        url = response.head.url

        async def open_range(start: int, length: int) -> BodyStream:
            try:
                return await self._range(found.etag, ContentRange(start, start + length - 1, size))
            except DataMoverError:
                self._streams.refused(url)
                raise

        wide = RangedSource(stream, size, open_range, self._clock, partial(self._streams.join, url))
        return _Worded(wide, self._bucket, self._path)

    async def _range(self, etag: str, wanted: ContentRange) -> BodyStream:
        headers = {"Range": f"bytes={wanted.first}-{wanted.last}", "If-Match": f'"{etag}"'}
        try:
            response = await self._bucket.get(self._path, headers)
        except Refused as refusal:
            if refusal.status in (404, 412, UNSATISFIABLE):
                raise self._bucket.refusals.changed(self._path) from refusal
            raise self._bucket.refusals.of(refusal, self._path) from refusal
        same = found_in(self._path, response.head).etag == etag
        if same and content_range(response.head) == wanted:
            return response.body
        await response.body.close()
        raise self._bucket.refusals.changed(self._path)


class ObjectSource:
    """``protocols.base.Source`` of an object, by one answer."""

    def __init__(
        self, bucket: Bucket, path: str, inspection: Inspection, offset: int, body: BodyStream | None, skip: int
    ) -> None:
        """Read ``body``, None for nothing, whose first ``skip`` bytes are dropped."""
        self.inspection = inspection
        self.offset = offset
        self._bucket = bucket
        self._path = path
        self._body = body
        self._skip = skip
        self._at = offset

    async def read(self) -> bytes:
        if self._body is None:
            return b""
        with self._bucket.refusals.about(self._path):
            data = await self._body.read()
            while self._skip and data:
                self._skip, data = max(0, self._skip - len(data)), data[self._skip :]
                data = data or await self._body.read()
        self._at += len(data)
        size = self.inspection.size
        if size is not None and (self._at > size or (not data and self._at < size)):
            raise self._bucket.refusals.changed(self._path)
        return data

    async def close(self) -> None:
        if self._body is not None:
            await self._body.close()


class _Worded:
    """A source whose errors are told in the words of its side."""

    def __init__(self, source: Source, bucket: Bucket, path: str) -> None:
        self._source = source
        self._bucket = bucket
        self._path = path

    @property
    def inspection(self) -> Inspection:
        return self._source.inspection

    @property
    def offset(self) -> int:
        return self._source.offset

    async def read(self) -> Octets:
        with self._bucket.refusals.about(self._path):
            return await self._source.read()

    async def close(self) -> None:
        await self._source.close()
