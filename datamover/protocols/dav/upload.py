"""The upload of one file: by one PUT of a hidden part file, or in chunks if the server supports them."""

from collections.abc import Awaitable, Sequence
from dataclasses import replace as changed
from typing import Protocol

from datamover.protocols.base import Lack, Octets, Origin
from datamover.protocols.dav.chunks import Chunking
from datamover.protocols.object_store.token import Token
from datamover.protocols.object_store.upload import MultipartUpload, Tools
from datamover.protocols.part_files.seam import PartFiles, PartFileSink, ProvePath
from datamover.protocols.part_files.upload import PartUpload
from datamover.protocols.upload import Check, Prove, Saved, Stored, Upload, unchecked


class SizedParts(PartFiles, Protocol):
    """Part files whose size and time are sent before their bytes."""

    async def prepare(self, target: str, part: str) -> str:
        """Check that the server accepts the target's name; return the path of its part file."""
        ...

    async def open_sized(
        self, part: str, target: str, *, offset: int, size: int | None, modified: float | None
    ) -> PartFileSink: ...

    async def place_over(
        self,
        part: str,
        target: str,
        *,
        size: int,
        replace: bool,
        prove: ProvePath | None,
        over: str | None,
        modified: float | None,
    ) -> Stored:
        """As ``place_part``, of a file that was to have the time ``modified``; ``over`` as in ``Upload.commit``."""
        ...

    async def without(self, path: str, modified: float | None) -> Sequence[Lack]:
        """Return what could not be done for a file that was to have this time."""
        ...


class WholeUpload(PartUpload):
    """``protocols.upload.Upload`` of a part file that is sent by one PUT."""

    __slots__ = ("_expected", "_sized")

    def __init__(
        self, files: SizedParts, target: str, token: str, *, offset: int, size: int | None, modified: float | None
    ) -> None:
        """``size`` is the file's size in bytes, if known."""
        super().__init__(files, target, token, offset=offset, modified=modified)
        self._sized = files
        self._expected = size

    async def open(self) -> None:
        self.token = await self._sized.prepare(self._target, self.token)
        self._sink = await self._sized.open_sized(
            self.token, self._target, offset=self.offset, size=self._expected, modified=self._modified
        )

    async def store(self, data: bytes, *, replace: bool, commit: Check) -> Stored:
        self.token = await self._sized.prepare(self._target, self.token)
        return await super().store(data, replace=replace, commit=commit)

    async def _place(self, *, replace: bool, over: str | None, prove: ProvePath | None) -> Stored:
        return await self._sized.place_over(
            self.token,
            self._target,
            size=self._size,
            replace=replace,
            prove=prove,
            over=over,
            modified=self._modified,
        )


class ChunkedUpload(MultipartUpload):
    """``protocols.upload.Upload`` in chunks, whose commit reports whether the file got its time."""

    def __init__(
        self,
        parts: SizedParts,
        tools: Tools,
        target: str,
        token: Token,
        offset: int = 0,
        *,
        size: int | None = None,
    ) -> None:
        super().__init__(tools, target, token, offset, size=size)
        self._files = parts

    async def commit(self, *, replace: bool, over: str | None = None, prove: Prove | None = None) -> Stored:
        await self._files.prepare(self._target, "")  # Whoever commits need not be who sent it.
        stored = await super().commit(replace=replace, over=over, prove=prove)
        return changed(stored, without=await self._files.without(self._target, self._token.modified))


class DavUpload:
    """``protocols.upload.Upload`` that decides at ``open`` whether it is whole or in chunks."""

    def __init__(
        self, parts: SizedParts, target: str, chunking: Chunking, chunked: MultipartUpload, whole: WholeUpload
    ) -> None:
        self._parts = parts
        self._target = target
        self._chunking = chunking
        self._chunked = chunked
        self._upload: Upload = whole
        self._opened = False

    @property
    def offset(self) -> int:
        return self._upload.offset

    @property
    def token(self) -> str | None:
        return self._upload.token if self._opened else None

    @property
    def arrived(self) -> Origin | None:
        return self._upload.arrived

    async def exists(self) -> bool:
        return self._opened and await self._upload.exists()

    async def open(self) -> None:
        if await self._chunking.ask():
            await self._parts.prepare(self._target, "")
            self._upload = self._chunked
        self._opened = True
        await self._upload.open()

    def write(self, data: Octets) -> Awaitable[None]:
        return self._upload.write(data)

    async def flush(self) -> Saved:
        return await self._upload.flush()

    async def finish(self) -> Saved:
        return await self._upload.finish()

    @property
    def without(self) -> Sequence[Lack]:
        return self._upload.without

    @property
    def doubtful(self) -> bool:
        return self._upload.doubtful

    @property
    def watched(self) -> bool:
        return self._upload.watched

    async def commit(self, *, replace: bool, over: str | None = None, prove: Prove | None = None) -> Stored:
        return await self._upload.commit(replace=replace, over=over, prove=prove)

    def store(self, data: bytes, *, replace: bool, commit: Check) -> Awaitable[Stored]:
        self._opened = True
        return self._upload.store(data, replace=replace, commit=commit)

    async def abort(self, check: Check = unchecked) -> None:
        if self._opened:
            await self._upload.abort(check)

    async def close(self) -> None:
        await self._upload.close()
