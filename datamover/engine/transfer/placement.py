"""An upload that is whole takes its target's name, and the target is looked at under it."""

from collections.abc import Sequence

from datamover.engine.meter import Meter
from datamover.engine.transfer.comparison import Content, read_through
from datamover.engine.transfer.digest import MAIN
from datamover.engine.transfer.spec import TransferSpec, TransferTools
from datamover.errors import ChecksumMismatch, DestinationExists
from datamover.jobs.values import Overwrite
from datamover.protocols.base import Lack, Origin
from datamover.protocols.upload import Stored, Upload


async def place(
    spec: TransferSpec, meter: Meter, tools: TransferTools, upload: Upload, target: str, content: Content
) -> Sequence[Lack]:
    """Commit an upload, for a lease that was committed; return what the file went without.

    Completes when the destination tells, of the target itself, that it holds as many bytes as ``content``, and, where
    it is to be read back, with the same digest. What is found otherwise is taken away: SizeMismatch, ChecksumMismatch.
    """

    async def prove(origin: Origin) -> None:
        await read_back(meter, tools, origin, target, content)

    meter.stage = "placing"
    try:
        stored = await upload.commit(
            replace=spec.overwrite is not Overwrite.NEVER, prove=prove if spec.read_back else None
        )
    except DestinationExists:
        # Our own commit may have made it and its answer been lost, or somebody else brought the same.
        if not await _holds(spec, tools, target, content):
            raise
        await upload.abort()
        return ()
    await _check(spec, target, stored, content)
    return stored.without


async def read_back(meter: Meter, tools: TransferTools, origin: Origin, target: str, content: Content) -> None:
    """Read what arrived for ``target``; raises ChecksumMismatch where it is not ``content``."""
    meter.stage = "reading back"
    found = await read_through(origin, tools.digest())
    if found.size != content.size or found.digests[MAIN] != content.digests[MAIN]:
        raise ChecksumMismatch(
            f"read back from the destination, {target!r} is {found.size} bytes with {MAIN} {found.digests[MAIN]}; "
            f"written were {content.size} with {content.digests[MAIN]}"
        )


async def _holds(spec: TransferSpec, tools: TransferTools, target: str, content: Content) -> bool:
    """Tell whether a target holds ``content``."""
    found = await spec.place.inspect(target)
    if found is None or found.size not in (None, content.size):
        return False
    there = await read_through(spec.place.origin(target), tools.digest())
    return there.digests[MAIN] == content.digests[MAIN]


async def _check(spec: TransferSpec, target: str, stored: Stored, content: Content) -> None:
    """Remove a target whose digest the destination tells otherwise than it was sent; raises ChecksumMismatch."""
    for algorithm, digest in stored.digests.items():
        if content.digests.get(algorithm, digest) != digest:
            await spec.place.remove(target)
            raise ChecksumMismatch(
                f"the destination tells {algorithm} {digest} of {target!r}, sent was {content.digests[algorithm]}"
            )
