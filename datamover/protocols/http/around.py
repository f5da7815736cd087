"""A source that wraps another one."""

from datamover.protocols.base import Octets, Source


class AroundSource:
    """Passes everything on; its subclasses override ``read``."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.inspection = source.inspection
        self.offset = source.offset

    async def read(self) -> Octets:
        return await self._source.read()

    async def close(self) -> None:
        await self._source.close()
