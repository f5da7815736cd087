"""Verify that an upload holds the beginning of its source, so that it can be resumed."""

from dataclasses import dataclass

from datamover.engine.transfer.digest import MAIN, Digest
from datamover.errors import DataMoverError
from datamover.jobs.values import Checkpoint
from datamover.protocols.base import Origin
from datamover.protocols.upload import Saved, Upload


@dataclass(frozen=True, slots=True)
class VerifiedPrefix:
    """The beginning of a file that was verified at the destination."""

    checkpoint: Checkpoint
    target: str
    digest: Digest
    """The digest of the prefix, to which the rest is added."""


def saved_of(checkpoint: Checkpoint) -> Saved:
    """Return the ``Saved`` from which an upload is resumed."""
    return Saved(checkpoint.offset, checkpoint.part)


async def verify_prefix(upload: Upload, checkpoint: Checkpoint, source: Origin, digest: Digest) -> bool:
    """Read the beginning of the upload into ``digest``; tell whether its digest is that of the checkpoint.

    If the side does not let uploads be read, ``Upload.exists`` verifies it there, and the digest is computed from the
    beginning of ``source``. Raises retryable errors, such as ConnectionLost.
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
