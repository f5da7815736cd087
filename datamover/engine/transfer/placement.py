"""A part file that is whole takes its target's name, and the target is looked at under it."""

from collections.abc import Sequence

from datamover.engine.meter import Meter
from datamover.engine.transfer.comparison import Content, read_through
from datamover.engine.transfer.digest import MAIN
from datamover.engine.transfer.spec import TransferSpec, TransferTools
from datamover.errors import ChecksumMismatch, DestinationExists, DestinationInvalid, SizeMismatch
from datamover.jobs.values import Overwrite
from datamover.protocols.base import Lack


async def place(
    order: TransferSpec, meter: Meter, tools: TransferTools, part: str, target: str, content: Content
) -> Sequence[Lack]:
    """Give a part file its name, for a lease that was committed; return what the file went without.

    Completes when the destination tells, of the target itself, that it holds as many bytes as ``content``, and, where
    it is to be read back, with the same digest. What is found otherwise is taken away: SizeMismatch, ChecksumMismatch.
    """

    async def prove(path: str) -> None:
        await read_back(order, meter, tools, path, content)

    meter.stage = "placing"
    try:
        return await order.place.place(
            part,
            target,
            size=content.size,
            replace=order.overwrite is not Overwrite.NEVER,
            prove=prove if order.read_back else None,
        )
    except DestinationExists:
        # By our own hand, maybe, and the answer said otherwise; or by another's, who brought the same.
        if not await _holds(order, tools, target, content):
            raise
        await order.place.remove(part)
        return ()
    except DestinationInvalid:
        if await order.place.inspect(part) is None:
            raise SizeMismatch(f"the part file of {target!r} vanished before it could be placed") from None
        raise


async def _holds(order: TransferSpec, tools: TransferTools, target: str, content: Content) -> bool:
    """Tell whether a target holds ``content``."""
    found = await order.place.inspect(target)
    if found is None or found.size not in (None, content.size):
        return False
    held = await read_through(order.place.origin(target), tools.digest())
    return held.digests[MAIN] == content.digests[MAIN]


async def read_back(order: TransferSpec, meter: Meter, tools: TransferTools, path: str, content: Content) -> None:
    """Read a file at the destination; raises ChecksumMismatch where it is not ``content``."""
    meter.stage = "reading back"
    held = await read_through(order.place.origin(path), tools.digest())
    if held.size != content.size or held.digests[MAIN] != content.digests[MAIN]:
        raise ChecksumMismatch(
            f"read back from the destination, {path!r} is {held.size} bytes with {MAIN} {held.digests[MAIN]}; written "
            f"were {content.size} with {content.digests[MAIN]}"
        )
