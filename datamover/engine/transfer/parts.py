"""Part files: what they are called, and the proof that one holds what it is said to hold.

A part file is hidden, stands in its target's directory, and is named for the transfer and for what is read into it:
whoever still writes to it late writes the same bytes to the same place. A source that gives no sign of a change gets
a name for each attempt, and is never resumed.
"""

import hashlib
import posixpath
from dataclasses import dataclass

from datamover.engine.transfer.digest import Digest
from datamover.errors import DataMoverError
from datamover.jobs.values import Checkpoint
from datamover.protocols.base import Place

PREFIX = ".datamover-"
SUFFIX = ".part"


def own_prefix(installation: str, transfer: int) -> str:
    """Return what all part files of one transfer begin with; transfers of other databases have the same numbers."""
    return f"{PREFIX}{installation[:8]}-{transfer}-"


def part_name(target: str, *, installation: str, transfer: int, source: str, identity: str | None, lease: int) -> str:
    """Return the path of the part file for ``target``; ``lease`` is the attempt's."""
    read = identity if identity is not None else f"attempt {lease}"
    mark = hashlib.sha256("\0".join((installation, source, read)).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return posixpath.join(posixpath.dirname(target), f"{own_prefix(installation, transfer)}{mark}{SUFFIX}")


async def left_over(place: Place, directory: str, prefix: str) -> list[str]:
    """Return the paths of the part files in a directory that begin with ``prefix``."""
    return [posixpath.join(directory, name) for name in await place.list(directory) if name.startswith(prefix)]


@dataclass(frozen=True, slots=True)
class VerifiedPrefix:
    """The proven beginning of a file."""

    checkpoint: Checkpoint
    digest: Digest
    """Over the prefix; goes on from there."""


async def verify_prefix(place: Place, checkpoint: Checkpoint | None, digest: Digest) -> VerifiedPrefix | None:
    """Read a part file's beginning back into ``digest``; None where it is not what the checkpoint says.

    Raises an error that is worth another attempt, such as ConnectionLost.
    """
    if checkpoint is None or not checkpoint.offset:
        return None
    try:
        found = await place.inspect(checkpoint.part)
        if found is None or (found.size or 0) < checkpoint.offset:
            return None
        await _read_back(place, checkpoint, digest)
    except DataMoverError as error:
        if error.retryable and not error.bounded:
            raise
        return None
    if digest.size != checkpoint.offset or (await digest.hexdigests())["sha256"] != checkpoint.digest:
        return None
    return VerifiedPrefix(checkpoint, digest)


async def _read_back(place: Place, checkpoint: Checkpoint, digest: Digest) -> None:
    source = await place.origin(checkpoint.part).open()
    try:
        left = checkpoint.offset
        while left and (data := await source.read()):
            await digest.add(data[:left])
            left -= min(left, len(data))
    finally:
        await source.close()
