"""The part of a place that object stores have in common."""

from collections.abc import Callable, Container
from contextlib import suppress

from datamover.errors import DestinationForbidden
from datamover.protocols.base import Ability, Inspection
from datamover.protocols.http_place.origin import ResourceOrigin
from datamover.protocols.object_store.seam import StoreResources
from datamover.protocols.object_store.token import Token
from datamover.protocols.object_store.trials import is_trial
from datamover.protocols.object_store.upload import MultipartUpload, Tools
from datamover.protocols.upload import Saved, UploadKey


class ObjectPlace:
    """``protocols.place.Place`` but for ``sweep``, ``list`` and ``free``."""

    def __init__(
        self,
        resources: StoreResources,
        origin: Callable[[str], ResourceOrigin],
        tools: Tools,
        lacks: Container[Ability],
    ) -> None:
        self.lacks = lacks
        self._resources = resources
        self._origin = origin
        self._tools = tools

    async def inspect(self, path: str) -> Inspection | None:
        return await self._resources.inspect(path)

    def origin(self, path: str) -> ResourceOrigin:
        return self._origin(path)

    def begin(
        self,
        target: str,
        key: UploadKey,
        *,
        size: int | None = None,
        modified: float | None = None,
        sha256: str | None = None,
    ) -> MultipartUpload:
        token = Token(key.transfer, key.content, modified=modified, sha256=sha256)
        return MultipartUpload(self._tools, target, token, size=size)

    def resume(
        self, target: str, saved: Saved, *, size: int | None = None, modified: float | None = None
    ) -> MultipartUpload:
        return MultipartUpload(self._tools, target, Token.parse(saved.token), saved.offset, size=size)

    async def remove(self, path: str) -> None:
        if is_trial(path):
            await self._remove_trial(path)
            return
        found = await self.inspect(path)
        if found is not None and found.directory:
            raise self._resources.refusals.directory(path)
        if found is not None:
            await self._resources.delete(path)

    async def _remove_trial(self, path: str) -> None:
        """Remove what was only tried out, of which no older version is to stay, also where one may not look at it."""
        with suppress(DestinationForbidden):
            if await self._tools.conditions.remove_versions(self._resources, path) is None:
                return
        await self._resources.delete(path)
