"""A local disk that breaks when it is told to: the protocol "faulty", for what no real disk does on command."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar

from datamover.errors import DestinationExists, Scope
from datamover.protocols.base import Inspection, Lack, Origin
from datamover.protocols.part_files import PartFilePlace
from datamover.protocols.part_files.seam import PartFileSink, ProvePath
from datamover.protocols.place import DestinationPool, PlaceSettings
from datamover.protocols.upload import Check, Stored
from tests.protocols.over_local import OverLocal

Fault = Callable[[str, str], Awaitable[None]]
"""Called before an operation ("place", "write", "list", "remove") with its path; may raise, or take its time."""


class FaultyPlace(PartFilePlace):
    """A place whose changes and listings go through ``Faulty.before``."""

    def __init__(self, place: PartFilePlace, faulty: "Faulty") -> None:
        self._place = place
        self._faulty = faulty

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place, name)

    async def inspect(self, path: str) -> Inspection | None:
        return await self._place.inspect(path)

    def origin(self, path: str) -> Origin:
        return self._place.origin(path)

    async def open_part(self, part: str, target: str, *, offset: int = 0) -> PartFileSink:
        await self._faulty.before("write", part)
        return await self._place.open_part(part, target, offset=offset)

    async def place_part(
        self, part: str, target: str, *, size: int, replace: bool, prove: ProvePath | None = None
    ) -> Stored:
        await self._faulty.before("place", target)
        return await self._place.place_part(part, target, size=size, replace=replace, prove=prove)

    async def put_part(
        self, part: str, target: str, data: bytes, *, modified: float | None, replace: bool, commit: Check
    ) -> Stored:
        """Take the steps one by one, so that each can break."""
        sink = await self.open_part(part, target)
        try:
            await sink.write(data)
            await sink.finish(modified=modified)
        finally:
            await sink.close()
        commit()
        try:
            return await self.place_part(part, target, size=len(data), replace=replace)
        except DestinationExists:
            await self.remove(part)
            raise

    async def list(self, path: str) -> list[str]:
        await self._faulty.before("list", path)
        return await self._place.list(path)

    async def remove(self, path: str) -> None:
        await self._faulty.before("remove", path)
        await self._place.remove(path)


class FaultyPool:
    """Local files, seen through ``FaultyPlace``."""

    def __init__(self, pool: DestinationPool, faulty: "Faulty") -> None:
        self._pool = pool
        self._faulty = faulty

    def at(self, side: Scope) -> Any:
        place = self._pool.at(side)
        assert isinstance(place, PartFilePlace)
        return FaultyPlace(place, self._faulty)

    @property
    def lacks(self) -> Iterable[Lack]:
        return self._pool.lacks

    async def connect(self) -> None:
        await self._pool.connect()

    async def close(self) -> None:
        await self._pool.close()


class Faulty(OverLocal):
    """``protocols.place.PlaceProtocol`` of ``faulty:///…``; ``before`` is the test's to replace."""

    name = "faulty"
    schemes: ClassVar[tuple[str, ...]] = ("faulty",)

    def __init__(self) -> None:
        self.before: Fault = _nothing

    def open(self, settings: PlaceSettings, options: Any, reactor: Any) -> DestinationPool:
        return FaultyPool(super().open(settings, options, reactor), self)


async def _nothing(operation: str, path: str) -> None:
    """Nothing breaks."""
