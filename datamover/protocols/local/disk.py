"""The blocking calls on the names below a root: stat, open, rename, unlink, each in one go.

Runs in threads. Raises OSError and OutsideRoot as the disk does, for ``Refusals.about`` to word; where the disk has no
word for it (not a regular file, too short a part), an error of the family.
"""

import errno
import os
import posixpath
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from datamover.protocols.base import Inspection
from datamover.protocols.local.beneath import Beneath, decode, encode, sync_directory
from datamover.protocols.local.put import Put
from datamover.protocols.local.reader import Opened, Reader, examine
from datamover.protocols.local.refusals import Refusals
from datamover.protocols.local.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")

_COMMON = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Disk:
    """The names below ``root``, in the words of one side."""

    def __init__(self, root: str, directory_mode: int, refusals: Refusals) -> None:
        self._root = root
        self._tree = Beneath(root, directory_mode)
        self._refusals = refusals

    def make_root(self) -> None:
        os.close(self._tree.open_root(make=True))

    def free(self) -> int:
        path = Path(self._root)
        while not path.exists():
            path = path.parent
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize

    def inspect(self, path: str) -> Inspection:
        """Look at one name, through links."""
        return examine(_name(path), self._tree.at(path, _status))

    def names(self, path: str) -> list[str]:
        return self._tree.at(path, _names)

    def remove(self, path: str) -> None:
        self._tree.at(path, lambda directory, name: os.unlink(name, dir_fd=directory))

    def open_file(self, path: str, offset: int, identity: str | None) -> Opened:
        """Open a regular file, from ``offset`` if it has ``identity``, and read its first bytes."""

        def open_it(directory: int, name: bytes) -> int:
            # Looked at first: to open a device can already do something to it.
            self._check_regular(_status(directory, name))
            return os.open(name, os.O_RDONLY | _COMMON, dir_fd=directory)

        descriptor = self._tree.at(path, open_it)
        try:
            status = os.fstat(descriptor)
            self._check_regular(status)
            inspection = examine(_name(path), status)
            start = offset if inspection.identity == identity and offset <= status.st_size else 0
            reader = Reader(descriptor, status, start, lambda: self._refusals.changed(path))
            return Opened(reader, reader.read(), inspection, start)
        except BaseException:
            os.close(descriptor)
            raise

    def open_part(self, part: str, offset: int) -> Writer:
        """Open a part file for writing from ``offset``; it is made only at 0."""
        flags = os.O_WRONLY | _COMMON | (0 if offset else os.O_CREAT)

        def open_it(directory: int, name: bytes) -> int:
            return os.open(name, flags, 0o600, dir_fd=directory)

        try:
            descriptor = self._tree.at(part, open_it, make=not offset)
        except FileNotFoundError:
            if offset:
                raise self._refusals.short(part, 0, offset) from None
            raise
        try:
            status = os.fstat(descriptor)
            self._check_regular(status)
            self._check_long_enough(status, part, offset)
        except BaseException:
            os.close(descriptor)
            raise
        return Writer(descriptor, offset)

    def put(self, files: Sequence[Put]) -> list[BaseException | None]:
        """Write small files and place them; return for each what went wrong, None for what is durably in place.

        Those of one directory share the walk to it and its flush.
        """
        failures: list[BaseException | None] = [None] * len(files)
        directories: dict[str, list[int]] = {}
        for number, file in enumerate(files):
            directories.setdefault(posixpath.dirname(file.part), []).append(number)
        for path, numbers in directories.items():
            try:
                with self._refusals.about(path):
                    self._put_beside(path, [(number, files[number]) for number in numbers], failures)
            except Exception as error:
                for number in numbers:
                    failures[number] = failures[number] or error
        return failures

    def _put_beside(self, path: str, files: Sequence[tuple[int, Put]], failures: list[BaseException | None]) -> None:
        """Write all, then flush all, then name all, then make the names durable."""
        steps: tuple[Callable[[Put, int], object], ...] = (Put.write, Put.sync, self._name_it)
        directory = self._tree.open_directory(path, make=True)
        try:
            for step in steps:
                for number, file in files:
                    if failures[number] is None:
                        failures[number] = self._failure(step, file, directory)
            sync_directory(directory)
        finally:
            for _, file in files:
                file.close()
            os.close(directory)

    def _failure(self, step: Callable[[Put, int], object], file: Put, directory: int) -> BaseException | None:
        try:
            with self._refusals.about(file.target):
                step(file, directory)
        except Exception as error:
            return error
        return None

    def _name_it(self, file: Put, directory: int) -> None:
        file.commit()
        if file.replace:
            self._check_no_directory(file.target)
            os.rename(file.part_name, file.name, src_dir_fd=directory, dst_dir_fd=directory)
            return
        try:
            self._link(directory, file.part_name, directory, file.name, file.target)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(file.part_name, dir_fd=directory)

    def place(self, part: str, target: str, replace: bool) -> None:
        """Rename a part file to its target and make that durable."""
        if replace:
            with self._refusals.about(target):
                self._check_no_directory(target)

        def from_part(source: int, part_name: bytes) -> None:
            self._check_regular(_status(source, part_name))

            def to_target(directory: int, name: bytes) -> None:
                if replace:
                    os.rename(part_name, name, src_dir_fd=source, dst_dir_fd=directory)
                else:
                    self._link(source, part_name, directory, name, target)
                # The part file may be a second name of what is in place already, which a rename leaves alone.
                with suppress(FileNotFoundError):
                    os.unlink(part_name, dir_fd=source)
                sync_directory(directory)

            with self._refusals.about(target):
                if beside:
                    to_target(source, encode(beside))
                else:
                    self._tree.at(target, to_target, make=True)

        # Nearly always in the same directory, which need not be looked for again.
        directory, name = posixpath.split(target)
        beside = name if name not in (".", "..") and directory == posixpath.dirname(part) else ""
        with self._refusals.about(part):
            self._tree.at(part, from_part)

    def _link(self, source: int, part: bytes, directory: int, name: bytes, target: str) -> None:
        try:
            os.link(part, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
        except FileExistsError:
            if not _same(source, part, directory, name):
                self._check_no_directory(target)
                raise self._refusals.exists(target) from None
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            self._claim(directory, name, target)
            os.rename(part, name, src_dir_fd=source, dst_dir_fd=directory)

    def _claim(self, directory: int, name: bytes, target: str) -> None:
        try:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _COMMON, 0o600, dir_fd=directory))
        except FileExistsError:
            self._check_no_directory(target)
            raise self._refusals.exists(target) from None

    def _check_no_directory(self, target: str) -> None:
        looked = unless_missing(self.inspect, target)
        if looked is not None and looked.directory:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

    def _check_long_enough(self, status: os.stat_result, part: str, offset: int) -> None:
        if status.st_size < offset:
            raise self._refusals.short(part, status.st_size, offset)

    def _check_regular(self, status: os.stat_result) -> None:
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.ENXIO, "not a regular file")


def unless_missing(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Return what ``call`` returns, None where there is nothing of the name."""
    try:
        return call(*args, **kwargs)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _name(path: str) -> str:
    return posixpath.basename(path.rstrip("/"))


def _status(directory: int, name: bytes) -> os.stat_result:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return status


def _names(directory: int, name: bytes) -> list[str]:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        return sorted(decode(os.fsencode(entry)) for entry in os.listdir(descriptor))
    finally:
        os.close(descriptor)


def _same(one_directory: int, one: bytes, other_directory: int, other: bytes) -> bool:
    first = os.stat(one, dir_fd=one_directory, follow_symlinks=False)
    second = os.stat(other, dir_fd=other_directory, follow_symlinks=False)
    return os.path.samestat(first, second)
