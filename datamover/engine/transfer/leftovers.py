"""Remove the uploads that attempts left at a destination, when no attempt will resume them."""

import posixpath
from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from datamover.engine.lease import Lease, Parked
from datamover.engine.meter import Meter
from datamover.engine.transfer.keys import transfer_key
from datamover.engine.transfer.prefix import saved_of
from datamover.engine.transfer.spec import TransferSpec, TransferTools
from datamover.errors import ConnectFailed, ConnectionLost, DataMoverError, Stalled, TimedOut
from datamover.jobs.values import Naming
from datamover.protocols.upload import Upload

log = Logger()

AWAY = (ConnectFailed, ConnectionLost, Stalled, TimedOut)
"""Errors of a destination that may work at the next attempt; after other errors a removal would fail then too."""


async def clear(spec: TransferSpec, lease: Lease, meter: Meter, tools: TransferTools) -> bool:
    """Remove all uploads of a transfer that no attempt will resume; tell whether all are removed."""
    meter.checkpoint = None
    uploads = {upload.token: upload for upload in (meter.upload, _resumed(spec)) if upload and upload.token}
    cleaned = [await abort(upload, lease, spec.path) for upload in uploads.values()]
    if lease.leader.lease > 1 and not uploads:
        # A node that crashed may have left an upload that it had not recorded.
        inside = () if spec.naming is Naming.EXACT else (spec.target or posixpath.join(spec.path, ""),)
        for target in {spec.path, *inside}:
            cleaned.append(await _succeeds(_sweep(spec, lease, tools, target, None), _left(target)))
    return all(cleaned)


async def sweep(spec: TransferSpec, lease: Lease, tools: TransferTools, target: str, keep: str | None = None) -> None:
    """Remove a transfer's uploads of ``target``, except the one whose token is ``keep``, before an attempt continues.

    If the attempt does not go on with the upload of the checkpoint, that is removed by its token: not every side tells
    whose an upload is.

    Raises Parked if the lease is not held, and the errors in ``AWAY``: if the file were placed nevertheless, no
    attempt would remove the leftovers.
    """
    earlier = _resumed(spec) if keep is None else None
    if earlier is not None:
        await abandon(earlier, lease, spec.target or spec.path)
    await _unless_away(_sweep(spec, lease, tools, target, keep), _left(target))


async def abandon(upload: Upload, lease: Lease, path: str) -> None:
    """Remove an upload of ``path`` before an attempt continues without it; raises the errors of ``sweep``."""
    await _unless_away(upload.abort(lease.check), f"the upload of {path!r}")


async def abort(upload: Upload, lease: Lease, path: str) -> bool:
    """Remove an upload of ``path`` if the lease is held; tell whether it is removed."""
    return await _succeeds(upload.abort(lease.check), f"the upload of {path!r}")


def _resumed(spec: TransferSpec) -> Upload | None:
    return spec.place.resume(spec.target or spec.path, saved_of(spec.checkpoint)) if spec.checkpoint else None


async def _sweep(spec: TransferSpec, lease: Lease, tools: TransferTools, target: str, keep: str | None) -> None:
    own = transfer_key(tools.installation, spec.transfer)
    await spec.place.sweep(target, own, check=lease.check, keep=keep, since=lease.leader.started)


def _left(target: str) -> str:
    return f"the leftovers of {target!r}"


async def _unless_away(removal: Coroutine[Any, Any, None], what: str) -> None:
    try:
        await removal
    except (Parked, *AWAY):
        raise
    except DataMoverError as trouble:
        log.warn("{what} could not be removed, and stays: {error}", what=what, error=trouble.full)


async def _succeeds(removal: Coroutine[Any, Any, None], what: str) -> bool:
    try:
        await removal
    except CancelledError:
        raise
    except DataMoverError as trouble:
        log.warn("{what} could not be removed: {error}", what=what, error=trouble.full)
    except Exception:  # A bug here must not prevent the outcome from being written.
        log.failure("{what} could not be removed", what=what)
    else:
        return True
    return False
