"""One object being read."""

from datamover.protocols.base import Inspection
from tests.protocols.toy.client import ToyClient, identity

PIECE = 2**16


class ToySource:
    """``protocols.base.Source`` of an object."""

    def __init__(self, client: ToyClient, path: str, inspection: Inspection, offset: int) -> None:
        self.inspection = inspection
        self.offset = offset
        self._client = client
        self._path = path
        self._at = offset

    async def read(self) -> bytes:
        store, key = await self._client.ask(), self._client.key(self._path)
        found = await store.head(key)
        if found is None or identity(found) != self.inspection.identity:
            raise self._client.refusals.changed(self._path)
        with self._client.refusals.about(self._path):
            data = await store.get(key, self._at, PIECE)
        self._at += len(data)
        return data

    async def close(self) -> None:
        """There is nothing to let go of."""


class ToyOrigin:
    """``protocols.base.Origin`` of an object."""

    def __init__(self, client: ToyClient, path: str) -> None:
        self._client = client
        self._path = path

    async def inspect(self) -> Inspection:
        return await self._client.look(self._path)

    async def open(self, offset: int = 0, identity: str | None = None) -> ToySource:
        found = await self._client.look(self._path)
        if found.directory:
            raise self._client.refusals.directory(self._path)
        start = offset if found.identity == identity and offset <= (found.size or 0) else 0
        return ToySource(self._client, self._path, found, start)
