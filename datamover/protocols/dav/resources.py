"""Read the files below one collection; what the server sends is compared with what it lists."""

import posixpath
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from datamover.protocols.base import Inspection, Source
from datamover.protocols.dav.files import MAYBE_A_DIRECTORY, DavFiles
from datamover.protocols.dav.looks import look_in
from datamover.protocols.dav.refusals import DavRefusals
from datamover.protocols.dav.service import DavRefused
from datamover.protocols.http.answers import Head, size_of, strong_tag
from datamover.protocols.http.client.response import Response
from datamover.protocols.http.steady import SteadySource
from datamover.protocols.http_place.origin import ResourceOrigin
from datamover.protocols.http_place.seam import Found


class DavResources:
    """``http_place.seam.Resources`` of one collection, with the errors of one side."""

    serves_ranges = False

    def __init__(self, files: DavFiles) -> None:
        self._files = files

    @property
    def refusals(self) -> DavRefusals:
        return self._files.refusals

    async def inspect(self, path: str) -> Inspection | None:
        return await self._files.inspect(path)

    async def get(self, path: str, headers: Mapping[str, str]) -> Response:
        """Return the answer to the GET of a file; raises Refused, and errors of the side, for a directory too."""
        if self._files.learnt.tagged is None:
            await self._files.look(path)
        with self.refusals.connecting():
            try:
                response = await self._files.service.send("GET", self._files.service.address.url(path), headers)
            except DavRefused as refusal:
                if refusal.status in MAYBE_A_DIRECTORY:
                    await self._check_file(path)
                raise
        head = response.head
        try:
            # For a directory some servers send a page, or nothing.
            if head.header("ETag") is None or head.codings or head.status == 204 or await self._is_doubtful(path):
                await self._check_file(path, head)
        except BaseException:
            await response.body.close()
            raise
        return response

    def found(self, path: str, head: Head) -> Found:
        tag = strong_tag(head)
        inspection = look_in(head).inspection(path, tagged=self._files.learnt.tagged is not False)
        return Found(inspection, {} if tag is None else {"If-Match": tag})

    async def _check_file(self, path: str, head: Head | None = None) -> None:
        """Raise an error unless there is a file and it has the size of the body that ``head`` announces."""
        found = await self._files.look(path)
        if found is None and self._files.learnt.doubtful:
            raise self.refusals.missing(path)
        if found is not None and found.collection:
            raise self.refusals.directory(path)
        if found is None or head is None:
            return
        given = size_of(head)
        if found.size not in (None, given) and (given is not None or head.codings):
            raise self.refusals.another(path, found.size, given, head.codings)

    async def _is_doubtful(self, path: str) -> bool:
        """Tell whether the server may answer a GET with something else than the file; tried once, around ``path``."""
        learnt, service = self._files.learnt, self._files.service
        if learnt.doubtful is None:
            doubtful = False
            for other in (f"{path}/none", posixpath.dirname(path)):
                with self.refusals.connecting(), suppress(DavRefused):
                    answer = await service.ask("HEAD", service.address.url(other))
                    doubtful |= answer.head.header("ETag") is not None
            learnt.doubtful = doubtful
        return learnt.doubtful

    async def same(self, path: str, then: Inspection) -> bool:
        """Tell whether a file is what the answer to a GET told of it, as far as HEAD tells the same."""
        with self.refusals.about(path):
            try:
                answer = await self._files.service.ask("HEAD", self._files.service.address.url(path))
            except DavRefused as refusal:
                return not refusal.missing
        now = self.found(path, answer.head).inspection
        kinds = {(each.identity or "").partition(" ")[0] for each in (now, then)}
        same = now.identity == then.identity or len(kinds) > 1  # HEAD may tell less.
        return same and (None in (now.size, then.size) or now.size == then.size)


class DavOrigin(ResourceOrigin):
    """``protocols.base.Origin`` of one file, which others may write in place while it is read."""

    _resources: DavResources

    async def open(self, offset: int = 0, identity: str | None = None) -> Source:
        source = await super().open(offset, identity)
        return SteadySource(source, self._clock, partial(self._check, source.inspection))

    async def _check(self, then: Inspection) -> None:
        if not await self._resources.same(self._path, then):
            raise self._resources.refusals.changed(self._path)
