"""Commit a whole upload under its target's name, and verify the target there."""

from collections.abc import Sequence

from datamover.engine.meter import Meter
from datamover.engine.transfer.comparison import HashedContent, read_through
from datamover.engine.transfer.digest import MAIN
from datamover.engine.transfer.spec import TransferSpec, TransferTools
from datamover.errors import ChecksumMismatch, DestinationExists
from datamover.jobs.values import Overwrite
from datamover.protocols.base import Lack, Origin
from datamover.protocols.upload import Stored, Upload
from datamover.text.quantities import count


async def place(
    spec: TransferSpec,
    meter: Meter,
    tools: TransferTools,
    upload: Upload,
    target: str,
    content: HashedContent,
    *,
    over: str | None = None,
) -> Sequence[Lack]:
    """Commit an upload, after ``Lease.commit``; return what the destination did not provide.

    ``over`` is the identity of the target that was compared; a destination with conditional requests replaces no other.

    Completes when the destination reports the size of ``content`` for the target and, if it is read back, when its
    digest is the same. A target that differs is removed: raises SizeMismatch or ChecksumMismatch.
    """

    async def prove(origin: Origin) -> None:
        await read_back(meter, tools, origin, target, content)

    meter.stage = "placing"
    try:
        stored = await upload.commit(
            replace=spec.overwrite is not Overwrite.NEVER, over=over, prove=prove if spec.read_back else None
        )
    except DestinationExists:
        # An earlier commit may have placed it and its answer been lost, or another program stored the same file.
        if not await holds(spec, tools, target, content):
            raise
        await upload.abort()
        return ()
    await _check(spec, target, stored, content)
    return stored.without


async def read_back(meter: Meter, tools: TransferTools, origin: Origin, target: str, content: HashedContent) -> None:
    """Read what arrived for ``target``; raises ChecksumMismatch if it is not ``content``."""
    meter.stage = "reading back"
    found = await read_through(origin, tools.digest())
    if found.size != content.size or found.digests[MAIN] != content.digests[MAIN]:
        raise ChecksumMismatch(
            f"read back from the destination, {target!r} is {count(found.size, 'byte')} with {MAIN} "
            f"{found.digests[MAIN]}; written were {content.size} with {content.digests[MAIN]}"
        )


async def holds(spec: TransferSpec, tools: TransferTools, target: str, content: HashedContent) -> bool:
    """Tell whether a target holds ``content``."""
    found = await spec.place.inspect(target)
    if found is None or found.size not in (None, content.size):
        return False
    there = await read_through(spec.place.origin(target), tools.digest())
    return there.digests[MAIN] == content.digests[MAIN]


async def _check(spec: TransferSpec, target: str, stored: Stored, content: HashedContent) -> None:
    """If the destination reports another digest than was sent, remove the target and raise ChecksumMismatch."""
    for algorithm, digest in stored.digests.items():
        if content.digests.get(algorithm, digest) != digest:
            await spec.place.remove(target)
            raise ChecksumMismatch(
                f"the destination reports {algorithm} {digest} of {target!r}, sent was {content.digests[algorithm]}"
            )
