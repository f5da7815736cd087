"""The names below a prefix of a bucket."""

from datamover.protocols.base import Ability, Inspection
from datamover.protocols.upload import Check, Saved, UploadKey
from tests.protocols.toy.client import ToyClient
from tests.protocols.toy.source import ToyOrigin
from tests.protocols.toy.upload import MultipartUpload, Token


class ToyPlace:
    """``protocols.place.Place`` of a prefix."""

    def __init__(self, client: ToyClient, lacks: frozenset[Ability]) -> None:
        self.lacks = lacks
        self._client = client

    async def inspect(self, path: str) -> Inspection | None:
        return await self._client.inspect(path)

    def origin(self, path: str) -> ToyOrigin:
        return ToyOrigin(self._client, path)

    def begin(
        self,
        target: str,
        key: UploadKey,
        *,
        size: int | None = None,
        modified: float | None = None,
        sha256: str | None = None,
    ) -> MultipartUpload:
        """Return a new upload; ``key`` is not needed, for no two uploads have anything in common here."""
        return MultipartUpload(self._client, target, Token(), 0, modified)

    def resume(
        self, target: str, saved: Saved, *, size: int | None = None, modified: float | None = None
    ) -> MultipartUpload:
        return MultipartUpload(self._client, target, Token.parse(saved.token), saved.offset, modified)

    async def sweep(
        self, target: str, transfer: str, *, check: Check, keep: str | None = None, since: float | None = None
    ) -> None:
        """Abort the uploads of one object: no two transfers have the same target at a time."""
        store = await self._client.ask()
        kept = Token.parse(keep).upload if keep else None
        for upload in await store.list_uploads(self._client.key(target)):
            if upload != kept:
                check()
                await store.abort_multipart(upload)

    async def remove(self, path: str) -> None:
        found = await self.inspect(path)
        if found is not None and found.directory:
            raise self._client.refusals.directory(path)
        await (await self._client.ask()).delete(self._client.key(path))

    async def list(self, path: str) -> list[str]:
        store, key = await self._client.ask(), self._client.key(path.rstrip("/"))
        prefix = f"{key}/" if key else ""
        return sorted({found.removeprefix(prefix).partition("/")[0] for found in await store.list_objects(prefix)})

    async def free(self) -> int | None:
        return None
