"""Reservations of space on the staging disk, so that attempts do not fill it together.

A reservation is a file beside the attempt's directory, ``NAME.room``, that holds a number of bytes. It is made under a
lock on the whole staging directory, so that every process of this machine sees the others' reservations. Those of a
process that died do not count (``lives``), and are removed with its directory. All functions block.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from datamover.errors import NoSpace, Scope
from datamover.text.quantities import count

_SUFFIX = ".room"


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Lock a staging directory, against other processes and other threads."""
    lock = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def reserve(root: Path, directory: Path, size: int, lives: Callable[[Path], bool]) -> None:
    """Reserve ``size`` bytes for ``directory``, which is in a node's directory below ``root``.

    This replaces the directory's reservation before. ``lives`` returns whether the process of a node's directory runs.
    Raises NoSpace if the disk does not have so much beyond what others have reserved and not used yet, and OSError. On
    a disk that does not report its free space every reservation succeeds.
    """
    with locked(root):
        try:
            status = os.statvfs(root)
        except OSError:
            return
        left = status.f_bavail * status.f_frsize - _outstanding(root, directory, lives)
        if left < size:
            raise NoSpace(
                f"{count(size, 'byte')} are needed for staging in {root} and {max(left, 0)} are free: "
                "make room there, or set [service] data_directory to a larger disk",
                scope=Scope.SERVICE,
            )
        try:
            _reservation_of(directory).write_text(str(size), "ascii")
        except OSError:
            forget(directory)
            raise


def forget(directory: Path) -> None:
    """Remove the reservation of a directory, if there is one."""
    _reservation_of(directory).unlink(missing_ok=True)


def _outstanding(root: Path, but: Path, lives: Callable[[Path], bool]) -> int:
    """Return the bytes that other directories have reserved and do not hold yet."""
    nodes = [node for node in root.iterdir() if node.is_dir() and lives(node)]
    return sum(_missing(path) for node in nodes for path in _reservations(node) if path != _reservation_of(but))


def _reservations(node: Path) -> list[Path]:
    try:
        return [node / name for name in os.listdir(node) if name.endswith(_SUFFIX)]
    except FileNotFoundError:
        return []  # Its process has just ended.


def _missing(reservation: Path) -> int:
    try:
        reserved = int(reservation.read_text("ascii"))
    except FileNotFoundError:
        return 0  # Its attempt has just ended.
    return max(0, reserved - _used(reservation.with_suffix("")))


def _used(directory: Path) -> int:
    used = 0
    for here, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):
                used += os.stat(os.path.join(here, name)).st_size
    return used


def _reservation_of(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}{_SUFFIX}")
