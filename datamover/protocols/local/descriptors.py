"""Create, flush and describe part files by their descriptors. What a disk cannot do is recorded as a lack."""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec

from datamover.protocols.base import Ability, Lack
from datamover.protocols.lacks import Lacks
from datamover.protocols.local.syscalls import look

P = ParamSpec("P")

COMMON = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Flags with which every file is opened: links are not followed, and opening a pipe or device does not block."""
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | COMMON
PROBE = b".own"
"""Added to a part file's name: a file made for a moment, to see which owner and mode the disk reports for our files."""
STEP = 2.0
"""Seconds by which a stored time may differ: the coarsest resolution of a file system (FAT)."""
CANNOT_FLUSH = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOTTY)
"""The errors by which a disk says that it cannot flush; any other means that bytes were lost."""


class NotOwn(Exception):
    """The part file's name belongs to a file that somebody else may have made."""

    def __init__(self, name: bytes, owner: int) -> None:
        """``owner`` is the user id that the disk reports for the file."""
        super().__init__(name, owner)
        self.name = name
        self.owner = owner


def make_anew(directory: int, name: bytes, mode: int, most: int) -> int:
    """Create a file with ``mode`` and return its descriptor, for writing. An existing file is removed first.

    If the disk does not let it be removed, it is overwritten, provided that it is ours and its mode has no bits beyond
    ``most``. Raises OSError, NotOwn.
    """
    with suppress(FileExistsError):
        return os.open(name, _MAKE, mode, dir_fd=directory)
    found = look(directory, name)
    if found is None or found.regular:
        with suppress(OSError):
            os.unlink(name, dir_fd=directory)
    try:
        return os.open(name, _MAKE, mode, dir_fd=directory)
    except FileExistsError as error:
        with suppress(FileNotFoundError):
            return open_own(directory, name, most)
        raise error from None


def open_own(directory: int, name: bytes, most: int) -> int:
    """Open a file for writing and return its descriptor, if it is ours and its mode has no bits beyond ``most``.

    In a directory that others can write to, they could create a file under any name, to read what is written to it.
    Raises NotOwn, and OSError (FileNotFoundError if there is none).
    """
    try:
        descriptor = os.open(name, os.O_WRONLY | COMMON, dir_fd=directory)
    except OSError as error:
        there = look(directory, name)
        if there is not None and stat.S_ISLNK(there.mode):
            raise NotOwn(name, there.owner) from error  # Links are not followed.
        raise
    own = False
    try:
        found = os.fstat(descriptor)
        own = _is_own(found, os.geteuid(), most, links=1) or _is_told_as_own(directory, name, found, most)
    finally:
        if not own:
            close(descriptor)
    if not own:
        raise NotOwn(name, found.st_uid)
    return descriptor


def _is_own(found: os.stat_result, owner: int, most: int, links: int) -> bool:
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_uid == owner
        and found.st_nlink <= links
        and not stat.S_IMODE(found.st_mode) & ~most
    )


def _is_told_as_own(directory: int, name: bytes, found: os.stat_result, most: int) -> bool:
    """Tell whether a file is ours on a mount that reports owners or modes of its own: compare it with a new file."""
    probe = name + PROBE
    try:
        descriptor = os.open(probe, _MAKE, most, dir_fd=directory)
    except OSError:
        return False
    try:
        made = os.fstat(descriptor)
    finally:
        close(descriptor)
        with suppress(OSError):
            os.unlink(probe, dir_fd=directory)
    strange = not _is_own(made, os.geteuid(), most, links=1)
    return strange and _is_own(found, made.st_uid, most | stat.S_IMODE(made.st_mode), max(1, made.st_nlink))


def close(descriptor: int) -> None:
    """Close a file whose content is no longer needed."""
    try:
        os.close(descriptor)
    except OSError as error:
        # EBADF is a bug of ours; any other error concerns bytes that are not needed.
        if error.errno == errno.EBADF:
            raise


def flush(descriptor: int, lacks: Lacks) -> Lack | None:
    """Flush a file to disk (fsync(2)); return the lack if the disk cannot. Raises OSError if bytes were lost."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_FLUSH:
            raise
        return lacks.learn(Ability.FLUSH, _refused(error))
    lacks.saw(Ability.FLUSH)
    return None


def describe(descriptor: int, mode: int, modified: float | None, lacks: Lacks) -> list[Lack]:
    """Set a file's mode and modification time (POSIX seconds); return what of that the disk cannot do.

    If the disk cannot store the time, the file gets the present one.
    """
    refused = {
        Ability.SET_MODE: _refusal(os.fchmod, descriptor, mode),
        Ability.SET_MODIFIED: None if modified is None else _refusal(_set_modified, descriptor, modified),
    }
    found = os.fstat(descriptor)
    if stat.S_IMODE(found.st_mode) == mode:
        # The file was created with this mode, which proves nothing about chmod.
        told = refused.pop(Ability.SET_MODE)
        if told:
            lacks.learn(Ability.SET_MODE, told)
    elif not refused[Ability.SET_MODE]:
        refused[Ability.SET_MODE] = f"the disk keeps {stat.S_IMODE(found.st_mode):04o}, asked was {mode:04o}"
    if modified is not None and not refused[Ability.SET_MODIFIED] and abs(found.st_mtime - modified) > STEP:
        _refusal(os.utime, descriptor)
        refused[Ability.SET_MODIFIED] = "the disk cannot hold it"
    if modified is not None and not refused[Ability.SET_MODIFIED]:
        lacks.saw(Ability.SET_MODIFIED)
    return [lacks.learn(ability, why) for ability, why in refused.items() if why]


def _set_modified(descriptor: int, modified: float) -> None:
    nanoseconds = round(modified * 1e9)
    os.utime(descriptor, ns=(nanoseconds, nanoseconds))


def _refusal(call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> str | None:
    try:
        call(*args, **kwargs)
    except OverflowError:
        return "the disk cannot hold it"
    except OSError as error:
        return _refused(error)
    return None


def _refused(error: OSError) -> str:
    return f"the disk answers: {os.strerror(error.errno) if error.errno else error}"
