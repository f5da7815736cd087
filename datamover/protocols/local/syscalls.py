"""System calls that Python's ``os`` lacks: a stat that bypasses caches, an exclusive rename, a file system's type.

Each does the next best thing if the C library lacks the call. They raise OSError, as the functions of ``os`` do.
"""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass

_LIBC = ctypes.CDLL(None, use_errno=True)
_STATX = getattr(_LIBC, "statx", None)
_RENAMEAT2 = getattr(_LIBC, "renameat2", None)
_FSTATFS = getattr(_LIBC, "fstatfs", None)

_NO_FOLLOW, _FORCE_SYNC = 0x100, 0x2000
_BASIC = 0x7FF
_SIZE = 256
"""Bytes of the kernel's struct statx."""
_FIELDS = struct.Struct("20xI4xHxxQQ64xqI4x8xII")
"""Of struct statx: owner, mode, inode, size, modification in seconds and nanoseconds, major and minor device."""
_NO_REPLACE = 1
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)


@dataclass(frozen=True, slots=True)
class FileStatus:
    """The status of a file; a link is not followed."""

    mode: int
    size: int
    modified: float
    """POSIX seconds."""
    file: tuple[int, int]
    """Device and inode: names for which they are equal are links to one file."""
    owner: int

    @property
    def regular(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


def look(directory: int, name: bytes) -> FileStatus | None:
    """Return the status of a file, None if there is none; a network file system has to ask its server (statx(2))."""
    try:
        return _statx(_STATX, directory, name) if _STATX is not None else _stat(directory, name)
    except FileNotFoundError:
        return None


def _statx(call: Callable[..., int], directory: int, name: bytes) -> FileStatus:
    buffer = ctypes.create_string_buffer(_SIZE)
    if call(directory, name, _NO_FOLLOW | _FORCE_SYNC, _BASIC, buffer):
        code = ctypes.get_errno()
        if code == errno.ENOSYS:
            return _stat(directory, name)
        raise OSError(code, os.strerror(code))
    owner, mode, inode, size, seconds, nanoseconds, major, minor = _FIELDS.unpack_from(buffer)
    return FileStatus(mode, size, seconds + nanoseconds / 1e9, (os.makedev(major, minor), inode), owner)


def _stat(directory: int, name: bytes) -> FileStatus:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    return FileStatus(status.st_mode, status.st_size, status.st_mtime, (status.st_dev, status.st_ino), status.st_uid)


def rename_exclusively(source: int, old: bytes, directory: int, new: bytes) -> None:
    """Rename to a name that nothing has; raises FileExistsError (renameat2(2)).

    If the file system has no such rename, the name is checked right before an ordinary one.
    """
    if _RENAMEAT2 is not None:
        if not _RENAMEAT2(source, old, directory, new, _NO_REPLACE):
            return
        code = ctypes.get_errno()
        if code not in _UNKNOWN:
            raise OSError(code, os.strerror(code))
    if look(directory, new) is not None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(old, new, src_dir_fd=source, dst_dir_fd=directory)


def file_system(descriptor: int) -> int | None:
    """Return the number in statfs(2) of the type of file system that an open file is on, None if unknown."""
    buffer = ctypes.create_string_buffer(_SIZE)
    if _FSTATFS is None or _FSTATFS(descriptor, buffer):
        return None
    kind: int = ctypes.c_long.from_buffer(buffer).value
    return kind & 0xFFFFFFFF
