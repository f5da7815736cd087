"""A source around another one."""

from datamover.protocols.base import Inspection, Octets, Source


class AroundSource:
    """Passes everything on; its subclasses override ``read``."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def inspection(self) -> Inspection:
        return self._source.inspection

    @property
    def offset(self) -> int:
        return self._source.offset

    async def read(self) -> Octets:
        return await self._source.read()

    async def close(self) -> None:
        await self._source.close()
