"""Is what stands at the target the same file? Told by content, never by name or time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from datamover.engine.transfer.digest import MAIN, Digest
from datamover.jobs.values import Checksum
from datamover.protocols.base import Inspection, Origin
from datamover.protocols.place import Place


class Compared(Protocol):
    """What is needed here of a ``TransferSpec``."""

    @property
    def origin(self) -> Origin: ...

    @property
    def place(self) -> Place: ...

    @property
    def checksum(self) -> Checksum | None: ...


@dataclass(frozen=True, slots=True)
class Content:
    """What was read to its end."""

    size: int
    digests: dict[str, str]


async def same_content(
    spec: Compared, target: str, found: Inspection, source: Inspection, new_digest: Callable[[], Digest]
) -> Content | None:
    """Return what ``target``, which is there, holds, if that is what the source holds; else None.

    Sizes that differ decide it. Else the target is hashed, and compared with the client's checksum where there is
    one, or with the source, read to its end.
    """
    if source.size is not None and found.size is not None and source.size != found.size:
        return None
    there = await read_through(spec.place.origin(target), new_digest())
    if spec.checksum is not None:
        return there if there.digests[spec.checksum.algorithm] == spec.checksum.hexdigest else None
    here = await read_through(spec.origin, new_digest())
    return there if there.digests[MAIN] == here.digests[MAIN] else None


async def read_through(origin: Origin, digest: Digest) -> Content:
    """Read a file to its end for its digests."""
    source = await origin.open()
    try:
        while data := await source.read():
            await digest.add(data)
    finally:
        await source.close()
    return Content(digest.size, await digest.hexdigests())
