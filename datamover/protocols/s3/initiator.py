"""The service's id of the login, which it names as the initiator of uploads; learnt from an upload made for that.

Such uploads of killed processes, and those of interrupted tests of a destination, are removed.
"""

from collections.abc import AsyncIterator
from typing import Protocol

from datamover.protocols.object_store.trials import BEGINNING, is_trial, new_trial
from datamover.protocols.s3.documents import Pending

FORGOTTEN = 900.0
"""Seconds after which such an upload is a leftover."""


class Uploads(Protocol):
    """The operations on the uploads of a bucket; see ``bucket.Bucket``."""

    def key(self, path: str) -> str: ...

    def path(self, key: str) -> str: ...

    async def create_upload(self, path: str, headers: dict[str, str]) -> str: ...

    def list_uploads(self, prefix: str, path: str) -> AsyncIterator[Pending]: ...

    async def abort_upload(self, path: str, upload: str) -> None: ...


class Initiator:
    """The id of one bucket's login."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._id: str | None = None

    async def get(self) -> str:
        """Return it, "" if the service does not report it. Raises errors of the side."""
        if self._id is None:
            self._id = await self._learn()
        return self._id

    async def _learn(self) -> str:
        uploads, path = self._uploads, new_trial()
        upload = await uploads.create_upload(path, {})
        try:
            listed = uploads.list_uploads(uploads.key(BEGINNING), path)
            pending = [each async for each in listed if is_trial(uploads.path(each.key))]
        finally:
            await uploads.abort_upload(path, upload)
        own = next((each for each in pending if each.upload == upload), None)
        if own is None:
            return ""
        for each in pending:
            if each.initiator == own.initiator and _older(each, own):
                await uploads.abort_upload(uploads.path(each.key), each.upload)
        return own.initiator


def _older(one: Pending, other: Pending) -> bool:
    """Tell whether one upload was begun so long before another that it is a leftover."""
    begun, then = one.initiated_at, other.initiated_at
    return begun is not None and then is not None and begun < then - FORGOTTEN
