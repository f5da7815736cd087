"""The files of a group taking their names: each committed from what the database remembers of its upload.

Whoever holds the lease does it, in this process or after a crash; what has its name already is left as it is.
"""

from collections.abc import Sequence

from datamover.engine.attempt import AttemptContext
from datamover.engine.lease import Lease
from datamover.engine.meter import Meter
from datamover.engine.transfer.comparison import Content, read_through
from datamover.engine.transfer.digest import MAIN
from datamover.engine.transfer.placement import place
from datamover.engine.transfer.prefix import saved_of
from datamover.engine.transfer.spec import TransferResult
from datamover.errors import Scope, SizeMismatch
from datamover.jobs.values import Checkpoint, Transfer
from datamover.jobs.work import Placement
from datamover.protocols.base import Lack, Origin
from datamover.protocols.place import Place
from datamover.protocols.upload import Upload


def placement_of(transfer: Transfer, result: TransferResult, *, own: bool) -> Placement:
    """Return what is written of a file that was brought; ``own``: size and digest are the transfer's own."""
    checkpoint = None if result.token is None else Checkpoint(result.token, "", result.size, result.digests[MAIN])
    return Placement(transfer, result.target, result.size, result.digest, checkpoint, own)


def remembered(transfer: Transfer) -> Placement | None:
    """Return what an earlier attempt wrote of a file, None where it wrote nothing."""
    checkpoint = transfer.checkpoint
    if checkpoint is None or transfer.target is None:
        return None
    own = transfer.archive is None
    return Placement(transfer, transfer.target, checkpoint.offset, f"{MAIN}:{checkpoint.digest}", checkpoint, own)


def upload_of(context: AttemptContext, transfer: Transfer, target: str, checkpoint: Checkpoint) -> Upload:
    """Return the upload that a checkpoint tells of."""
    destination: Place = context.registry.get(transfer.destination).at(Scope.DESTINATION)
    return destination.resume(target, saved_of(checkpoint), size=checkpoint.offset)


async def commit(
    context: AttemptContext, lease: Lease, meter: Meter, placement: Placement, origin: Origin
) -> Sequence[Lack]:
    """Give one file its name, unless it has it; return what it went without.

    Raises SizeMismatch where it neither has its name nor is ready to take it, and what ``place`` does.
    """
    checkpoint, target = placement.checkpoint, placement.target
    if checkpoint is None:
        return ()
    spec = context.spec(placement.transfer, lease, origin=origin)
    upload = upload_of(context, placement.transfer, target, checkpoint)
    if lease.leader.placing:  # An earlier attempt may have come so far.
        if await _is_placed(context, spec.place, target, checkpoint):
            await upload.abort(lease.check)
            return ()
        if not await upload.exists():
            raise SizeMismatch(f"neither the upload of {target!r} nor that file holds what was brought")
    content = Content(checkpoint.offset, {MAIN: checkpoint.digest})
    return await place(spec, meter, context.tools, upload, target, content)


async def _is_placed(context: AttemptContext, destination: Place, target: str, checkpoint: Checkpoint) -> bool:
    found = await destination.inspect(target)
    if found is None or found.size != checkpoint.offset:
        return False
    there = await read_through(destination.origin(target), context.tools.digest())
    return there.digests[MAIN] == checkpoint.digest
