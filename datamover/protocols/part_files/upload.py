"""An upload that is a part file until it is committed; its token is the part file's path."""

from collections.abc import Awaitable, Sequence
from functools import partial

from datamover.errors import DestinationInvalid, SizeMismatch
from datamover.protocols.base import Lack, Octets, Origin
from datamover.protocols.part_files.names import OLD
from datamover.protocols.part_files.seam import PartFiles, PartFileSink, ProvePath
from datamover.protocols.upload import Check, Prove, Saved, Stored, unchecked


class PartUpload:
    """``protocols.upload.Upload`` of the part file ``token``."""

    __slots__ = ("_files", "_modified", "_sink", "_size", "_target", "doubtful", "offset", "token", "without")

    def __init__(self, files: PartFiles, target: str, token: str, *, offset: int, modified: float | None) -> None:
        """``offset`` is how many bytes of the part file were saved. Nothing is sent to the side yet."""
        self.token = token
        self.offset = offset
        self.without: Sequence[Lack] = ()
        self.doubtful = False
        self._files = files
        self._target = target
        self._modified = modified
        self._size = offset
        self._sink: PartFileSink | None = None

    @property
    def arrived(self) -> Origin:
        return self._files.origin(self.token)

    async def exists(self) -> bool:
        """Tell whether the part file is there; its content is verified by reading it."""
        return await self._files.inspect(self.token) is not None

    async def open(self) -> None:
        """Open the part file; bytes of an earlier attempt stay until they are overwritten, or cut off by ``finish``."""
        self._sink = await self._files.open_part(self.token, self._target, offset=self.offset)

    def write(self, data: Octets) -> Awaitable[None]:
        return self._opened.write(data)

    async def flush(self) -> Saved:
        return Saved(await self._opened.flush(), self.token)

    @property
    def watched(self) -> bool:
        return self._opened.watched

    async def finish(self) -> Saved:
        sink = self._opened
        self._size = await sink.finish(modified=self._modified)
        self.without, self.doubtful = sink.without, sink.doubtful
        return Saved(self._size, self.token)

    async def commit(self, *, replace: bool, over: str | None = None, prove: Prove | None = None) -> Stored:
        try:
            return await self._place(replace=replace, over=over, prove=partial(self._prove, prove) if prove else None)
        except DestinationInvalid:
            if not await self.exists():
                raise SizeMismatch(f"the part file of {self._target!r} vanished before it could be placed") from None
            raise

    def store(self, data: bytes, *, replace: bool, commit: Check) -> Awaitable[Stored]:
        return self._files.put_part(
            self.token, self._target, data, modified=self._modified, replace=replace, commit=commit
        )

    async def abort(self, check: Check = unchecked) -> None:
        """Remove the part file, and the second name of the old file."""
        for path in (self.token, f"{self.token}{OLD}"):
            check()
            await self._files.remove(path)

    async def close(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            await sink.close()

    @property
    def _opened(self) -> PartFileSink:
        assert self._sink is not None, "the upload is not open"
        return self._sink

    async def _place(self, *, replace: bool, over: str | None, prove: ProvePath | None) -> Stored:
        """Place the part file; a protocol with conditional requests overrides this to honour ``over``."""
        return await self._files.place_part(self.token, self._target, size=self._size, replace=replace, prove=prove)

    async def _prove(self, prove: Prove, path: str) -> None:
        await prove(self._files.origin(path))
