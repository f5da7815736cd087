"""Resolve paths below a root directory, so that no path and no symbolic link leads out of it.

As openat2(2) does with RESOLVE_BENEATH: every segment is opened relative to its directory without following links; a
link is read, and its segments are resolved in turn, never above the root. An absolute link is followed if it begins
with the root's own path. All calls block.
"""

import errno
import os
import stat
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from datamover.protocols.base import Ability
from datamover.protocols.lacks import Lacks
from datamover.protocols.local.descriptors import close

T = TypeVar("T")

LINKS = 40
"""Symbolic links followed in one path, the same as the kernel's limit."""

_ENTER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class OutsideRoot(Exception):
    """The path leads out of the root."""


class Beneath:
    """The tree below ``root``, an absolute path; a link in the root's own path is followed."""

    def __init__(self, root: str, directory_mode: int, lacks: Lacks) -> None:
        self._root = os.fsencode(root)
        self._directory_mode = directory_mode
        self._lacks = lacks

    def at(self, path: str, do: Callable[[int, bytes], T], *, make: bool = False) -> T:
        """Return what ``do(directory descriptor, name)`` returns for the last segment of ``path``.

        ``do`` must not follow links: if it fails with ELOOP (or ENOTDIR) at one, the link is resolved and ``do`` is
        called again. With ``make`` missing directories are made, and the root.

        Raises OutsideRoot, and OSError as open(2) does.
        """
        todo = deque(_segments(encode(path)))
        done: list[bytes] = []
        links = 0
        here = self.open_root(make=make)
        try:
            while True:
                name = todo.popleft() if todo else b"."
                if name == b"..":
                    if not done:
                        raise OutsideRoot
                    # Begin again at the root: the directory above may have been moved meanwhile.
                    todo.extendleft(reversed(done[:-1]))
                    done.clear()
                    here = _exchange(here, self.open_root())
                    continue
                try:
                    if not todo:
                        return do(here, name)
                    below = self._enter(here, name, make)
                except OSError as error:
                    link = _read_link(here, name) if error.errno in (errno.ELOOP, errno.ENOTDIR) else None
                    if link is None:
                        raise
                    links += 1
                    if links > LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
                    if link.startswith(b"/"):
                        link = self._from_root(link)
                        done.clear()
                        here = _exchange(here, self.open_root())
                    todo.extendleft(reversed(_segments(link)))
                    continue
                here = _exchange(here, below)
                done.append(name)
        finally:
            os.close(here)

    def make_directory(self, path: str) -> int:
        """Make a directory, if it is missing, and those above it; return its descriptor, for the caller to close."""
        return self.at(path, lambda above, name: self._enter(above, name, make=True), make=True)

    def open_root(self, *, make: bool = False) -> int:
        """Return a descriptor of the root, for the caller to close; with ``make`` it and its parents are made."""
        flags = _ENTER & ~os.O_NOFOLLOW
        try:
            return os.open(self._root, flags)
        except FileNotFoundError:
            if not make:
                raise
        missing = [Path(os.fsdecode(self._root))]
        while not missing[-1].parent.exists():
            missing.append(missing[-1].parent)
        for directory in reversed(missing):
            parent = os.open(directory.parent, flags)
            try:
                os.close(self._enter(parent, os.fsencode(directory.name), make=True))
            finally:
                os.close(parent)
        return os.open(self._root, flags)

    def _enter(self, parent: int, name: bytes, make: bool) -> int:
        try:
            return os.open(name, _ENTER, dir_fd=parent)
        except FileNotFoundError:
            if not make:
                raise
        try:
            os.mkdir(name, self._directory_mode, dir_fd=parent)
        except FileExistsError:
            return os.open(name, _ENTER, dir_fd=parent)
        made = os.open(name, _ENTER, dir_fd=parent)
        try:
            # mkdir applied the umask. The bit that a set-group-id parent gave stays.
            inherited = os.stat(made).st_mode & stat.S_ISGID
            try:
                os.chmod(b".", self._directory_mode | inherited, dir_fd=made)
            except OSError as error:
                self._lacks.learn(Ability.SET_MODE, f"the disk answers: {error.strerror}")
            sync_directory(parent, self._lacks)
        except BaseException:
            os.close(made)
            raise
        return made

    def _from_root(self, link: bytes) -> bytes:
        """Return the part of an absolute link below the root; raises OutsideRoot."""
        for root in (self._root, os.path.realpath(self._root)):
            prefix = root.rstrip(b"/") + b"/"
            if (link + b"/").startswith(prefix):
                return link[len(prefix) :]
        raise OutsideRoot


def sync_directory(directory: int, lacks: Lacks) -> None:
    """Make a directory's names durable, if its file system can do that and the directory may be read.

    A failure is only recorded as a lack: the names are there, though a crash of the machine may lose them.
    """
    try:
        readable = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return
    try:
        os.fsync(readable)
    except OSError as error:
        lacks.learn(Ability.FLUSH, f"a directory is not flushed: the disk answers: {error.strerror}")
    finally:
        close(readable)


def encode(path: str) -> bytes:
    """Return a path as bytes: UTF-8, whatever the locale."""
    return path.encode("utf-8", "surrogateescape")


def decode(name: bytes) -> str:
    """Return a name as text; bytes that are not UTF-8 become lone surrogates."""
    return name.decode("utf-8", "surrogateescape")


def _segments(path: bytes) -> list[bytes]:
    return [segment for segment in path.split(b"/") if segment not in (b"", b".")]


def _read_link(directory: int, name: bytes) -> bytes | None:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return None


def _exchange(old: int, new: int) -> int:
    os.close(old)
    return new
