"""Read objects; dynamic large ones, whose segments may change meanwhile, are checked again at the end."""

from collections.abc import Awaitable, Callable

from datamover.protocols.base import Inspection, Octets, Source
from datamover.protocols.http.around import AroundSource
from datamover.protocols.http.client.response import Response
from datamover.protocols.http_place.origin import ResourceOrigin
from datamover.protocols.http_place.seam import Found
from datamover.protocols.swift.objects import SwiftObject


class SwiftOrigin(ResourceOrigin):
    """``protocols.base.Origin`` of one object."""

    def _wide(self, found: Found, response: Response | None, offset: int = 0, begins: int = 0) -> Source:
        source = super()._wide(found, response, offset, begins)
        dynamic = isinstance(found, SwiftObject) and found.dynamic
        return RecheckedSource(source, self._recheck) if dynamic else source

    async def _recheck(self, before: Inspection) -> None:
        """Raise SourceChanged if the object is another than before."""
        now = await self._resources.inspect(self._path)
        if now is None or (now.identity, now.size) != (before.identity, before.size):
            raise self._resources.refusals.changed(self._path)


class RecheckedSource(AroundSource):
    """A source that calls ``recheck`` at its end.

    If a segment of a dynamic large object is replaced while the object is read, the service sends a mixture.
    """

    def __init__(self, source: Source, recheck: Callable[[Inspection], Awaitable[None]]) -> None:
        super().__init__(source)
        self._recheck = recheck

    async def read(self) -> Octets:
        data = await self._source.read()
        if not data:
            await self._recheck(self.inspection)
        return data
