"""What attempts leave beside a target: part files, removed when nobody will go on from them."""

import posixpath
from collections.abc import Coroutine
from typing import Any

from twisted.logger import Logger

from datamover.engine.lease import Lease, Parked
from datamover.engine.meter import Meter
from datamover.engine.transfer.parts import left_over, own_prefix
from datamover.engine.transfer.spec import TransferSpec, TransferTools
from datamover.errors import ConnectFailed, ConnectionLost, DataMoverError, Stalled, TimedOut
from datamover.jobs.values import Naming
from datamover.protocols.base import OLD, Place

log = Logger()

AWAY = (ConnectFailed, ConnectionLost, Stalled, TimedOut)
"""A destination that may be back for the next attempt; what else keeps a part file there would keep it then, too."""


async def clear(order: TransferSpec, lease: Lease, meter: Meter, tools: TransferTools) -> bool:
    """Remove what attempts left beside the target, for when nobody will go on from it; tell whether nothing is left."""
    meter.checkpoint = None
    known = {meter.part, order.checkpoint.part if order.checkpoint else None} - {None}
    cleared = [await _remove_both(order.place, lease, part) for part in known if part]
    if lease.leader.lease > 1 and not known:
        # A node that died may have left one that it told nobody of.
        into = set() if order.naming is Naming.EXACT else {order.path}
        for directory in {posixpath.dirname(order.path), *into}:
            cleared.append(await _done(_sweep(order, lease, tools, directory, None), f"part files in {directory!r}"))
    return all(cleared)


async def sweep(
    order: TransferSpec, lease: Lease, tools: TransferTools, directory: str, keep: str | None = None
) -> None:
    """Remove a transfer's part files from a directory, all but ``keep``, for an attempt that goes on.

    Raises Parked where the lease is not held, and the error of a destination that is ``AWAY``: were the file placed
    all the same, nobody would come back for what is left.
    """
    try:
        await _sweep(order, lease, tools, directory, keep)
    except (Parked, *AWAY):
        raise
    except DataMoverError as trouble:
        log.warn("part files in {directory!r} stay: {error}", directory=directory, error=trouble.full)


async def remove(place: Place, lease: Lease, part: str) -> bool:
    """Remove a part file, if the lease is held; tell whether it is gone."""
    return await _done(_remove(place, lease, part), f"part file {part}")


async def _remove_both(place: Place, lease: Lease, part: str) -> bool:
    """Remove a part file, and what it was about to replace."""
    return await remove(place, lease, part) and await remove(place, lease, f"{part}{OLD}")


async def _sweep(order: TransferSpec, lease: Lease, tools: TransferTools, directory: str, keep: str | None) -> None:
    for part in await left_over(order.place, directory, own_prefix(tools.installation, order.transfer)):
        # The old file of the attempt before is given up once this one is in place, and not before.
        if keep is None or part not in (keep, f"{keep}{OLD}"):
            await _remove(order.place, lease, part)


async def _remove(place: Place, lease: Lease, part: str) -> None:
    lease.check()
    await place.remove(part)


async def _done(removal: Coroutine[Any, Any, None], what: str) -> bool:
    try:
        await removal
    except DataMoverError as trouble:
        log.warn("{what} could not be removed: {error}", what=what, error=trouble.full)
    except Exception:  # A bug of ours here must not keep the outcome from being written.
        log.failure("{what} could not be removed", what=what)
    else:
        return True
    return False
