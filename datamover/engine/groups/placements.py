"""Place the files of a group, each from the checkpoint of its upload in the database.

The holder of the lease does it, in this process or after a crash. A file that is placed already stays as it is.
"""

from collections.abc import Sequence

from datamover.engine.attempt import AttemptContext
from datamover.engine.lease import Lease
from datamover.engine.meter import Meter
from datamover.engine.transfer.comparison import HashedContent
from datamover.engine.transfer.digest import MAIN
from datamover.engine.transfer.placement import holds, place
from datamover.engine.transfer.prefix import saved_of
from datamover.engine.transfer.spec import TransferResult
from datamover.errors import Scope, SizeMismatch
from datamover.jobs.values import Checkpoint, Transfer
from datamover.jobs.work import Placement
from datamover.protocols.base import Lack, Origin
from datamover.protocols.upload import Upload


def placement_of(transfer: Transfer, result: TransferResult, *, own: bool) -> Placement:
    """Return what the database stores of an uploaded file; ``own``: size and digest are the transfer's own."""
    checkpoint = None if result.token is None else Checkpoint(result.token, "", result.size, result.digests[MAIN])
    return Placement(transfer, result.target, result.size, result.digest, checkpoint, own)


def remembered(transfer: Transfer) -> Placement | None:
    """Return what an earlier attempt stored of a file, None if it stored nothing."""
    checkpoint = transfer.checkpoint
    if checkpoint is None or transfer.target is None:
        return None
    own = transfer.archive is None
    return Placement(transfer, transfer.target, checkpoint.offset, f"{MAIN}:{checkpoint.digest}", checkpoint, own)


def upload_of(context: AttemptContext, transfer: Transfer, target: str, checkpoint: Checkpoint) -> Upload:
    """Return the upload of a checkpoint."""
    destination = context.registry.get(transfer.destination).at(Scope.DESTINATION)
    upload: Upload = destination.resume(target, saved_of(checkpoint), size=checkpoint.offset)
    return upload


async def commit(
    context: AttemptContext, lease: Lease, meter: Meter, placement: Placement, origin: Origin
) -> Sequence[Lack]:
    """Place one file unless it is in place; return what the destination did not provide.

    Raises SizeMismatch if neither the target nor the upload holds the file, and the errors of ``place``.
    """
    checkpoint, target = placement.checkpoint, placement.target
    if checkpoint is None:
        return ()
    spec = context.spec(placement.transfer, lease, origin=origin)
    upload = upload_of(context, placement.transfer, target, checkpoint)
    content = HashedContent(checkpoint.offset, {MAIN: checkpoint.digest})
    if lease.leader.placing:  # An earlier attempt may have placed it.
        if await holds(spec, context.tools, target, content):
            await upload.abort(lease.check)
            return ()
        if not await upload.exists():
            raise SizeMismatch(f"neither the upload of {target!r} nor that file holds the bytes that were uploaded")
    return await place(spec, meter, context.tools, upload, target, content)
