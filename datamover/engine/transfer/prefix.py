"""The proof that an upload holds the beginning of its source, so that it can be gone on with."""

from dataclasses import dataclass

from datamover.engine.transfer.digest import MAIN, Digest
from datamover.errors import DataMoverError
from datamover.jobs.values import Checkpoint
from datamover.protocols.base import Origin
from datamover.protocols.upload import Saved, Upload


@dataclass(frozen=True, slots=True)
class VerifiedPrefix:
    """The proven beginning of a file."""

    checkpoint: Checkpoint
    target: str
    digest: Digest
    """Over the prefix; goes on from there."""


def saved_of(checkpoint: Checkpoint) -> Saved:
    """Return what an upload is resumed from."""
    return Saved(checkpoint.offset, checkpoint.part)


async def verify_prefix(upload: Upload, checkpoint: Checkpoint, source: Origin, digest: Digest) -> bool:
    """Read the beginning of what arrived into ``digest``; tell whether it is what the checkpoint says.

    Where the side does not let it be read, the side vouches for it (``Upload.exists``), and the digest is computed
    from the same beginning of ``source``. Raises an error that is worth another attempt, such as ConnectionLost.
    """
    if not checkpoint.offset:
        return False
    try:
        if not await upload.exists():
            return False
        await _read(upload.arrived or source, checkpoint.offset, digest)
    except DataMoverError as error:
        if error.retryable and not error.bounded:
            raise
        return False
    return digest.size == checkpoint.offset and (await digest.hexdigests())[MAIN] == checkpoint.digest


async def _read(origin: Origin, size: int, digest: Digest) -> None:
    source = await origin.open()
    try:
        while size and (data := await source.read()):
            await digest.add(data[:size])
            size -= min(size, len(data))
    finally:
        await source.close()
