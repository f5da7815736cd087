"""Room on the staging disk: promised to attempts before they fill it, never twice.

A promise is a file beside the attempt's directory, ``NAME.room``, that holds a number of bytes. It is made under a lock
on the whole staging directory, so that every process of this machine sees the others' promises; those of a process that
died count no more (``lives``), and go with its directory. All of it blocks.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from datamover.errors import NoSpace, Scope

_SUFFIX = ".room"


@contextmanager
def turn(root: Path) -> Iterator[None]:
    """Let one process, and one thread of it, at a time into a staging directory."""
    lock = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def promise(root: Path, directory: Path, size: int, lives: Callable[[Path], bool]) -> None:
    """Promise ``size`` bytes to ``directory``, a node's below ``root``, in the stead of what it was promised before.

    ``lives`` tells whether the process of a node's directory runs. Raises NoSpace where the disk has not that much
    beyond what is promised to others and not yet used by them, and OSError. Of a disk that does not tell its room
    anything is promised.
    """
    with turn(root):
        try:
            status = os.statvfs(root)
        except OSError:
            return
        left = status.f_bavail * status.f_frsize - _outstanding(root, directory, lives)
        if left < size:
            raise NoSpace(
                f"{size} bytes are needed for staging in {root} and {max(left, 0)} are free: "
                "make room there, or set [service] data_directory to a larger disk",
                scope=Scope.SERVICE,
            )
        try:
            _promise_of(directory).write_text(str(size), "ascii")
        except OSError:
            forget(directory)
            raise


def forget(directory: Path) -> None:
    """Take back what was promised to a directory, if anything was."""
    _promise_of(directory).unlink(missing_ok=True)


def _outstanding(root: Path, but: Path, lives: Callable[[Path], bool]) -> int:
    """Return the bytes that were promised to directories and are not in them yet."""
    nodes = [node for node in root.iterdir() if node.is_dir() and lives(node)]
    return sum(_missing(path) for node in nodes for path in _promises(node) if path != _promise_of(but))


def _promises(node: Path) -> list[Path]:
    try:
        return [node / name for name in os.listdir(node) if name.endswith(_SUFFIX)]
    except FileNotFoundError:
        return []  # Its process has just ended.


def _missing(promise: Path) -> int:
    try:
        promised = int(promise.read_text("ascii"))
    except FileNotFoundError:
        return 0  # Its attempt has just ended.
    return max(0, promised - _used(promise.with_suffix("")))


def _used(directory: Path) -> int:
    used = 0
    for here, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):
                used += os.stat(os.path.join(here, name)).st_size
    return used


def _promise_of(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}{_SUFFIX}")
