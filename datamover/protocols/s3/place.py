"""A prefix of a bucket as a destination."""

from collections.abc import Callable, Container

from twisted.logger import Logger

from datamover.protocols.base import Ability
from datamover.protocols.http_place.origin import ResourceOrigin
from datamover.protocols.http_place.refused import Unreadable
from datamover.protocols.object_store.place import ObjectPlace
from datamover.protocols.object_store.token import Token
from datamover.protocols.object_store.upload import Tools
from datamover.protocols.s3.bucket import Bucket
from datamover.protocols.s3.documents import Pending
from datamover.protocols.slices import in_order
from datamover.protocols.upload import Check

log = Logger()


class S3Place(ObjectPlace):
    """``protocols.place.Place`` of a prefix."""

    def __init__(
        self, bucket: Bucket, origin: Callable[[str], ResourceOrigin], tools: Tools, lacks: Container[Ability]
    ) -> None:
        super().__init__(bucket, origin, tools, lacks)
        self._bucket = bucket

    async def sweep(
        self, target: str, transfer: str, *, check: Check, keep: str | None = None, since: float | None = None
    ) -> None:
        """Abort the transfer's uploads of ``target``: those that this process began, and those that no other can own.

        An upload of a killed process is recognised by its key, its initiator and its time. Others are left alone, and
        logged.
        """
        kept = Token.parse(keep).upload if keep else None
        async for pending in self._bucket.list_uploads(self._bucket.key(target), target):
            if pending.upload == kept or not self._belongs(pending, target):
                continue
            maker = self._bucket.made.transfer(pending.upload)
            if maker == transfer or (maker is None and await self._bucket.began(pending, since)):
                check()
                await self._bucket.abort_upload(self._bucket.path(pending.key), pending.upload)
            elif maker is None:
                log.warn(
                    "an unfinished upload of {key!r}, begun at {since}, is left alone: it may be another program's",
                    key=pending.key,
                    since=pending.initiated,
                )

    async def list(self, path: str) -> list[str]:
        path = path.strip("/")
        prefix = self._bucket.inside(path)
        names: set[str] = set()
        following: str | None = None
        while True:
            page = await self._bucket.list_page(prefix, path, following=following)
            # The directory itself may have a key, which ends in "/".
            names |= {found.removeprefix(prefix).removesuffix("/") for found in page.prefixes}
            names |= {found.removeprefix(prefix) for found in page.keys if found != prefix}
            for unnamed in names & {"", ".", ".."}:
                why = f"holds keys that no path can name, at {prefix + unnamed!r}: rename them"
                raise self._bucket.refusals.unusable(path, why)
            if page.following is None:
                return await self._bucket.service.run(in_order(names))
            with self._bucket.refusals.reading(path):
                if page.following in ("", following):
                    raise Unreadable("its list is not complete, and does not go on")
            following = page.following

    async def free(self) -> int | None:
        return None

    def _belongs(self, pending: Pending, target: str) -> bool:
        key = self._bucket.key(target.rstrip("/"))
        if target and not target.endswith("/"):
            return pending.key == key
        inside = self._bucket.inside(target.rstrip("/"))
        return pending.key.startswith(inside) and "/" not in pending.key[len(inside) :]
