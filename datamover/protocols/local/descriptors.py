"""What is done alike to every open file of a local disk; what a disk does not do is learnt, and does no harm."""

import errno
import os
import stat
from collections.abc import Callable

from datamover.protocols.base import Ability, Lack
from datamover.protocols.lacks import Lacks

STEP = 2.0
"""Seconds by which a time may be off: the coarsest that file systems keep (FAT)."""
CANNOT_FLUSH = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOTTY)
"""How a disk says that it cannot flush; any other answer tells of bytes that are lost."""


def close(descriptor: int) -> None:
    """Close a file that nothing depends on any more."""
    try:
        os.close(descriptor)
    except OSError as error:
        # EBADF is a bug of ours; anything else tells of bytes that are given up.
        if error.errno == errno.EBADF:
            raise


def flush(descriptor: int, lacks: Lacks) -> Lack | None:
    """Flush a file to disk (fsync(2)); return the lack where the disk cannot. Raises OSError where bytes are lost."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_FLUSH:
            raise
        return lacks.learn(Ability.FLUSH, _refused(error))
    lacks.saw(Ability.FLUSH)
    return None


def describe(descriptor: int, mode: int, modified: float | None, lacks: Lacks) -> list[Lack]:
    """Set a file's mode and its modification time, POSIX seconds; return what of it the disk does not do.

    A time that the disk cannot hold is not exchanged for another: the file then has the time of its arrival.
    """
    refused = {
        Ability.SET_MODE: _refusal(lambda: os.fchmod(descriptor, mode)),
        Ability.SET_MODIFIED: None if modified is None else _refusal(lambda: _set_modified(descriptor, modified)),
    }
    found = os.fstat(descriptor)
    if not refused[Ability.SET_MODE] and stat.S_IMODE(found.st_mode) != mode:
        refused[Ability.SET_MODE] = f"the disk keeps {stat.S_IMODE(found.st_mode):04o}, asked was {mode:04o}"
    if modified is not None and not refused[Ability.SET_MODIFIED] and abs(found.st_mtime - modified) > STEP:
        _refusal(lambda: os.utime(descriptor))
        refused[Ability.SET_MODIFIED] = "the disk cannot hold it"
    for ability in refused:
        if not refused[ability] and (ability is Ability.SET_MODE or modified is not None):
            lacks.saw(ability)
    return [lacks.learn(ability, why) for ability, why in refused.items() if why]


def _set_modified(descriptor: int, modified: float) -> None:
    nanoseconds = round(modified * 1e9)
    os.utime(descriptor, ns=(nanoseconds, nanoseconds))


def _refusal(call: Callable[[], None]) -> str | None:
    try:
        call()
    except OverflowError:
        return "the disk cannot hold it"
    except OSError as error:
        return _refused(error)
    return None


def _refused(error: OSError) -> str:
    return f"the disk answers: {os.strerror(error.errno) if error.errno else error}"
