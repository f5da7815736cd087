"""What attempts leave beside a target: part files, removed when nobody will go on from them."""

import posixpath

from twisted.logger import Logger

from datamover.engine.lease import Lease
from datamover.engine.meter import Meter
from datamover.engine.order import Order, Tools
from datamover.engine.parts import left_over, own_prefix
from datamover.errors import DataMoverError
from datamover.jobs.values import Naming
from datamover.protocols.base import Place

log = Logger()


async def clear(order: Order, lease: Lease, meter: Meter, tools: Tools) -> bool:
    """Remove what attempts left beside the target, for when nobody will go on from it; tell whether nothing is left."""
    meter.checkpoint = None
    known = {meter.part, order.checkpoint.part if order.checkpoint else None} - {None}
    cleared = [await remove(order.place, lease, part) for part in known if part]
    if lease.leader.attempt > 1 and not known:
        # A node that died may have left one that it told nobody of.
        into = set() if order.naming is Naming.EXACT else {order.path}
        for directory in {posixpath.dirname(order.path), *into}:
            cleared.append(await sweep(order, lease, tools, directory))
    return all(cleared)


async def sweep(order: Order, lease: Lease, tools: Tools, directory: str, keep: str | None = None) -> bool:
    """Remove a transfer's part files from a directory, all but ``keep``; tell whether none is left."""
    try:
        found = await left_over(order.place, directory, own_prefix(tools.installation, order.transfer))
    except DataMoverError as trouble:
        log.warn("no part file is looked for in {directory!r}: {error}", directory=directory, error=trouble.message)
        return False
    return all([await remove(order.place, lease, part) for part in found if part != keep])


async def remove(place: Place, lease: Lease, part: str) -> bool:
    """Remove a part file, if the lease is held; tell whether it is gone."""
    if not lease.held:
        return False
    try:
        await place.remove(part)
    except DataMoverError as trouble:
        log.warn("part file {part} could not be removed: {error}", part=part, error=trouble.message)
        return False
    except Exception:  # A bug of ours here must not keep the outcome from being written.
        log.failure("part file {part} could not be removed", part=part)
        return False
    return True
