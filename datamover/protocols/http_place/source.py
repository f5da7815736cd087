"""One file that is read from an answer's body, with the errors of one side."""

from datamover.protocols.base import Inspection, Octets, Source
from datamover.protocols.http.around import AroundSource
from datamover.protocols.http.client.body import BodyStream
from datamover.protocols.http_place.refusals import HttpRefusals


class ResourceSource:
    """``protocols.base.Source`` of one answer's body."""

    def __init__(
        self,
        refusals: HttpRefusals,
        path: str,
        inspection: Inspection,
        offset: int,
        body: BodyStream | None,
        skip: int,
        ends: int | None,
        coded: bool = False,
    ) -> None:
        """Read ``body`` (None: it is empty) after dropping ``skip`` bytes; the file's offset at its end is ``ends``.

        ``coded``: the server says that the body is compressed, although it was asked for the file as it is.
        """
        self.inspection = inspection
        self.offset = offset
        self._refusals = refusals
        self._path = path
        self._body = body
        self._skip = skip
        self._at = offset
        self._ends = ends
        self._coded = coded

    async def read(self) -> bytes:
        if self._body is None:
            return b""
        with self._refusals.about(self._path):
            data = await self._body.read()
            while self._skip and data:
                self._skip, data = max(0, self._skip - len(data)), data[self._skip :]
                data = data or await self._body.read()
        self._at += len(data)
        if self._ends is not None and (self._at > self._ends or (not data and self._at < self._ends)):
            raise self._refusals.coded(self._path) if self._coded else self._refusals.changed(self._path)
        return data

    async def close(self) -> None:
        if self._body is not None:
            await self._body.close()


class WordedSource(AroundSource):
    """A source whose errors become errors of one side."""

    def __init__(self, source: Source, refusals: HttpRefusals, path: str) -> None:
        super().__init__(source)
        self._refusals = refusals
        self._path = path

    async def read(self) -> Octets:
        with self._refusals.about(self._path):
            return await self._source.read()
