"""Compare the target with the source, by content and never by name or time."""

from collections.abc import Callable, Set
from dataclasses import dataclass

from datamover.engine.transfer.digest import MAIN, Digest
from datamover.engine.transfer.spec import TransferSpec
from datamover.protocols.base import Inspection, Origin


@dataclass(frozen=True, slots=True)
class HashedContent:
    """The size and the digests of a file that was read to its end."""

    size: int
    digests: dict[str, str]


async def same_content(
    spec: TransferSpec, target: str, found: Inspection, source: Inspection, new_digest: Callable[[], Digest]
) -> HashedContent | None:
    """Return the content of an existing ``target`` if it equals the source's, else None.

    If the sizes differ, nothing is read. Else the target's digests are those that its side tells, unless what arrives
    there is to be read back, or of what is read. They are compared with the client's checksum if there is one, or with
    the source's: told, or of what is read to its end.
    """
    if source.size is not None and found.size is not None and source.size != found.size:
        return None
    there = None if spec.read_back else _told(found, new_digest().algorithms)
    there = there or await read_through(spec.place.origin(target), new_digest())
    if spec.checksum is not None:
        return there if there.digests[spec.checksum.algorithm] == spec.checksum.hexdigest else None
    here = _told(source, {MAIN}) or await read_through(spec.origin, new_digest())
    return there if there.digests[MAIN] == here.digests[MAIN] else None


def _told(inspection: Inspection, algorithms: Set[str]) -> HashedContent | None:
    """Return the content as its side tells it, None where a digest is missing."""
    if inspection.size is None or not algorithms <= inspection.digests.keys():
        return None
    return HashedContent(inspection.size, dict(inspection.digests))


async def read_through(origin: Origin, digest: Digest) -> HashedContent:
    """Read a file to its end, and return its size and digests."""
    source = await origin.open()
    try:
        while data := await source.read():
            await digest.add(data)
    finally:
        await source.close()
    return HashedContent(digest.size, await digest.hexdigests())
