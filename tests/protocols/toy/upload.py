"""A multipart upload: its token is the upload's number and the digest that was told of each part."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

from twisted.internet.defer import Deferred, DeferredLock

from datamover.concurrency.shielding import finish_despite_cancel
from datamover.errors import ConnectionLost
from datamover.protocols.base import Lack, Octets
from datamover.protocols.upload import Check, Prove, Saved, Stored, unchecked
from tests.protocols.toy.client import ToyClient
from tests.protocols.toy.source import ToyOrigin
from tests.protocols.toy.store import LEAST, Refused

PART = 2**20
"""Bytes of a part."""


@dataclass(frozen=True, slots=True)
class Token:
    """What an upload is gone on with from."""

    upload: str = ""
    """Empty: it is not begun."""
    digests: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        told = json.loads(text)
        return cls(told["upload"], tuple(told["digests"]))

    def __str__(self) -> str:
        return json.dumps(asdict(self))


class MultipartUpload:
    """``protocols.upload.Upload`` of one object."""

    arrived = None
    doubtful = False
    watched = False
    without: Sequence[Lack] = ()

    def __init__(self, client: ToyClient, target: str, token: Token, offset: int, modified: float | None) -> None:
        self.offset = offset
        self._client = client
        self._target = target
        self._token = token
        self._modified = modified
        self._gathered = bytearray()
        self._size = offset
        """Bytes that are in parts."""
        self._sending = DeferredLock()
        """Parts have their numbers in the order of the bytes."""
        self._broken = False

    @property
    def token(self) -> str | None:
        return str(self._token) if self._token.upload else None

    async def exists(self) -> bool:
        """Tell whether the store has the parts that the token tells of, by their digests."""
        store = await self._client.ask()
        try:
            found = await store.list_parts(self._token.upload)
        except Refused:
            return False
        return tuple(found[: len(self._token.digests)]) == self._token.digests

    async def open(self) -> None:
        if self._token.upload:
            return  # The parts were looked at; those that came after them are written over.
        # To its end: an upload that is made only after its transfer was given up would never be aborted.
        await finish_despite_cancel(Deferred.fromCoroutine(self._create()))

    async def write(self, data: Octets) -> None:
        self._gathered += data
        if len(self._gathered) >= PART:
            await self._send()

    async def flush(self) -> Saved:
        """Send what was gathered, if the store takes a part of that size."""
        if len(self._gathered) < LEAST:
            return Saved(self._size, str(self._token))
        return await self._send()

    async def finish(self) -> Saved:
        if self._gathered or not self._token.digests:
            return await self._send()
        return Saved(self._size, str(self._token))

    async def commit(self, *, replace: bool, over: str | None = None, prove: Prove | None = None) -> Stored:
        store = await self._client.ask()
        with self._client.refusals.about(self._target):
            await store.complete(self._token.upload, list(self._token.digests), if_none_match=not replace)
        return await self._look(self._size, prove)

    async def store(self, data: bytes, *, replace: bool, commit: Check) -> Stored:
        store = await self._client.ask()
        commit()
        with self._client.refusals.about(self._target):
            await store.put(self._client.key(self._target), data, self._modified, if_none_match=not replace)
        return await self._look(len(data), None)

    async def abort(self, check: Check = unchecked) -> None:
        if not self._token.upload:
            return
        store = await self._client.ask()
        check()
        try:
            await store.abort_multipart(self._token.upload)
        except Refused:
            return  # It is gone.

    async def close(self) -> None:
        self._gathered.clear()

    async def _create(self) -> None:
        store = await self._client.ask()
        with self._client.refusals.about(self._target):
            self._token = Token(await store.create_multipart(self._client.key(self._target), self._modified))

    async def _send(self) -> Saved:
        """Send what was gathered when this is called as the next part; return what is saved with it."""
        data = bytes(self._gathered)
        self._gathered.clear()
        await self._sending.acquire()
        try:
            if self._broken:
                raise ConnectionLost(f"a part of {self._target!r} was lost")
            self._broken = True  # Until the part is answered: what is behind it would be out of its place.
            store = await self._client.ask()
            with self._client.refusals.about(self._target):
                digest = await store.put_part(self._token.upload, len(self._token.digests), data)
            self._token = Token(self._token.upload, (*self._token.digests, digest))
            self._size += len(data)
            self._broken = False
            return Saved(self._size, str(self._token))
        finally:
            self._sending.release()

    async def _look(self, size: int, prove: Prove | None) -> Stored:
        """Look at the object; one that is wrong is removed, for the store keeps no old one."""
        store, key = await self._client.ask(), self._client.key(self._target)
        found = await store.head(key)
        if found is None or len(found.data) != size:
            await store.delete(key)
            held = len(found.data) if found else None
            raise self._client.refusals.other_size(self._target, "under its name", held, size)
        if prove is not None:
            try:
                await prove(ToyOrigin(self._client, self._target))
            except BaseException:
                await store.delete(key)
                raise
        return Stored(size, {"sha256": found.digest})
