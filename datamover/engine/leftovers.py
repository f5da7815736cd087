"""What attempts leave beside a target: part files, removed when nobody will go on from them."""

import posixpath

from twisted.logger import Logger

from datamover.engine.lease import Lease
from datamover.engine.meter import Meter
from datamover.engine.order import Order, Tools
from datamover.engine.parts import left_over, own_prefix
from datamover.errors import DataMoverError
from datamover.jobs.values import Naming

log = Logger()


async def clear(order: Order, lease: Lease, meter: Meter, tools: Tools) -> None:
    """Remove what attempts left beside the target; for when nobody will go on from it."""
    meter.checkpoint = None
    known = {meter.part, order.checkpoint.part if order.checkpoint else None} - {None}
    for part in known:
        await _remove(order, lease, part)
    if lease.leader.attempt > 1 and not known:
        # A node that died may have left one that it told nobody of.
        into = set() if order.naming is Naming.EXACT else {order.path}
        for directory in {posixpath.dirname(order.path), *into}:
            await sweep(order, lease, tools, directory)


async def sweep(order: Order, lease: Lease, tools: Tools, directory: str, keep: str | None = None) -> None:
    """Remove a transfer's part files from a directory, all but ``keep``."""
    try:
        found = await left_over(order.place, directory, own_prefix(tools.installation, order.transfer))
    except DataMoverError as trouble:
        log.warn("no part file is looked for in {directory!r}: {error}", directory=directory, error=trouble.message)
        return
    for part in found:
        if part != keep:
            await _remove(order, lease, part)


async def _remove(order: Order, lease: Lease, part: str | None) -> None:
    if part is None or not lease.held:
        return
    try:
        await order.place.remove(part)
    except DataMoverError as trouble:
        log.warn("part file {part} could not be removed: {error}", part=part, error=trouble.message)
    except Exception:  # A bug of ours here must not keep the outcome from being written.
        log.failure("part file {part} could not be removed", part=part)
