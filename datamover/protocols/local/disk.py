"""The blocking operations on files below a root; they run in threads.

They raise OSError, OutsideRoot and NotOwn, which ``DiskRefusals.about`` translates, and errors of the family where no
system call fails (a part file that is too short).
"""

import errno
import os
import posixpath
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from datamover.errors import DestinationExists
from datamover.protocols.base import Ability, Inspection, Lack
from datamover.protocols.lacks import PRIVATE, Lacks
from datamover.protocols.local.beneath import Beneath, decode, encode, sync_directory
from datamover.protocols.local.descriptors import COMMON, NotOwn, make_anew, open_own
from datamover.protocols.local.placing import LocalPlacement
from datamover.protocols.local.put import Put
from datamover.protocols.local.reader import LocalReader, Opened, examine
from datamover.protocols.local.refusals import DiskRefusals
from datamover.protocols.local.writer import FileWriter

P = ParamSpec("P")
T = TypeVar("T")

_NOT_AGAIN = (errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO)
"""The errors of disks that cannot open an existing file for writing, such as mounts of object stores."""


class Disk:
    """The files below ``root``, with the errors of one side."""

    def __init__(self, root: str, directory_mode: int, refusals: DiskRefusals, lacks: Lacks) -> None:
        self._root = root
        self._tree = Beneath(root, directory_mode, lacks)
        self._refusals = refusals
        self._lacks = lacks

    def make_root(self) -> None:
        os.close(self._tree.open_root(make=True))

    def free(self) -> int | None:
        """Return how many bytes are left, None if the disk does not report it."""
        try:
            status = os.statvfs(self._nearest())
        except OSError as error:
            self._lacks.learn(Ability.FREE_SPACE, f"the disk answers: {error.strerror}")
            return None
        self._lacks.saw(Ability.FREE_SPACE)
        return status.f_bavail * status.f_frsize

    def volume(self) -> str:
        """Return the number of the file system that the root is on, or will be made on."""
        return str(os.stat(self._nearest()).st_dev)

    def _nearest(self) -> Path:
        """Return the root, or the lowest directory above it that exists."""
        path = Path(self._root)
        while not path.exists():
            path = path.parent
        return path

    def inspect(self, path: str) -> Inspection:
        """Inspect one path, following links."""
        return examine(_name(path), self._tree.at(path, _status))

    def names(self, path: str) -> list[str]:
        return self._tree.at(path, _names)

    def remove(self, path: str) -> None:
        self._tree.at(path, lambda directory, name: os.unlink(name, dir_fd=directory))

    def open_file(self, path: str, offset: int, identity: str | None) -> Opened:
        """Open a regular file, from ``offset`` if it has ``identity``, and read its first bytes."""

        def open_it(directory: int, name: bytes) -> int:
            # Checked first, because opening a device may already have an effect on it.
            self._check_regular(_status(directory, name))
            return os.open(name, os.O_RDONLY | COMMON, dir_fd=directory)

        descriptor = self._tree.at(path, open_it)
        try:
            status = os.fstat(descriptor)
            self._check_regular(status)
            inspection = examine(_name(path), status)
            start = offset if inspection.identity == identity and offset <= status.st_size else 0
            reader = LocalReader(descriptor, status, start, lambda: self._refusals.changed(path))
            if not reader.tells_size:
                inspection = replace(inspection, size=None, identity=None)
            return Opened(reader, reader.read(), inspection, start)
        except BaseException:
            os.close(descriptor)
            raise

    def open_part(self, part: str, target: str, offset: int, mode: int) -> FileWriter:
        """Open a part file, which will have ``mode``, for writing from ``offset``; at 0 it is created."""

        def open_it(directory: int, name: bytes) -> int:
            if not offset:
                return make_anew(directory, name, self._lacks.first_mode(mode), PRIVATE | mode)
            try:
                return open_own(directory, name, PRIVATE | mode)
            except NotOwn as found:
                raise self._refusals.not_own(target, found.owner) from found
            except OSError as error:
                if error.errno not in _NOT_AGAIN:
                    raise
                self._lacks.learn(Ability.RESUME, f"the disk answers: {error.strerror}")
                raise self._refusals.not_again(target) from error

        try:
            descriptor = self._tree.at(part, open_it, make=not offset)
        except FileNotFoundError:
            if offset:
                raise self._refusals.short(target, 0, offset) from None
            raise
        try:
            status = os.fstat(descriptor)
            self._check_regular(status)
            self._check_long_enough(status, target, offset)
        except BaseException:
            os.close(descriptor)
            raise
        return FileWriter(descriptor, offset, self._lacks)

    def put(self, files: Sequence[Put]) -> list[BaseException | None]:
        """Write small files and place them; return the error of each, None for one that is durably in place.

        The files of one directory share opening and flushing it.
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
        """Write all, flush and close all, give all their names and check them, then make the names durable.

        If one fails, the others go on. All files are closed at the end.
        """
        steps: tuple[Callable[[Put, int], object], ...] = (Put.write, Put.finish, self._name_it, _settle)
        directory = self._tree.make_directory(path)
        try:
            for step in steps:
                for number, file in files:
                    if failures[number] is not None:
                        continue
                    try:
                        step(file, directory)
                    except Exception as error:
                        failures[number] = self._refusals.meaning(error, file.target)
            sync_directory(directory, self._lacks)
        finally:
            for _, file in files:
                file.close()
            os.close(directory)

    def _name_it(self, file: Put, directory: int) -> None:
        file.commit()
        if file.replace:
            self._check_no_directory(file.target)
        file.placing = placing = self._placing(
            (directory, file.part_name), (directory, file.name), file.target, len(file.data), file.replace
        )
        try:
            placing.keep()
            placing.take_name()
        except DestinationExists:
            with suppress(FileNotFoundError):
                os.unlink(file.part_name, dir_fd=directory)
            raise

    def place(self, part: str, target: str, size: int, replace: bool) -> list[Lack]:
        """Place a part file durably; return what could not be done for it."""
        placing = self.begin_placing(part, target, size, replace)
        try:
            with self._refusals.about(target):
                placing.keep()
                placing.take_name()
            return self.settle(placing, target)
        finally:
            self.end_placing(placing)

    def begin_placing(self, part: str, target: str, size: int, replace: bool) -> LocalPlacement:
        """Open the directories of a part file and of its target; ``end_placing`` closes them."""
        if replace:
            with self._refusals.about(target):
                self._check_no_directory(target)

        def from_part(source: int, part_name: bytes) -> LocalPlacement:
            self._check_regular(_status(source, part_name))

            def to_target(directory: int, name: bytes) -> LocalPlacement:
                kept = os.dup(source)
                try:
                    aim = os.dup(directory)
                except OSError:
                    os.close(kept)
                    raise
                return self._placing((kept, part_name), (aim, name), target, size, replace)

            with self._refusals.about(target):
                return to_target(source, encode(beside)) if beside else self._tree.at(target, to_target, make=True)

        # It is nearly always the same directory, which then need not be resolved again.
        directory, name = posixpath.split(target)
        beside = name if name not in (".", "..") and directory == posixpath.dirname(part) else ""
        with self._refusals.about(part):
            return self._tree.at(part, from_part)

    def settle(self, placing: LocalPlacement, target: str) -> list[Lack]:
        """Remove what was kept until the target was checked, and make its name durable."""
        with self._refusals.about(target):
            placing.settle()
            sync_directory(placing.directory, self._lacks)
        return placing.without

    def end_placing(self, placing: LocalPlacement) -> None:
        """Close the directories of a placing that has ended, in whatever way."""
        os.close(placing.source)
        os.close(placing.directory)

    def _placing(
        self, part: tuple[int, bytes], target: tuple[int, bytes], path: str, size: int, replace: bool
    ) -> LocalPlacement:
        return LocalPlacement(*part, *target, path, size, replace, self._refusals, self._lacks)

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
    """Return what ``call`` returns, None if the file does not exist."""
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


def _settle(file: Put, directory: int) -> None:
    assert file.placing is not None
    file.placing.settle()
    file.without += file.placing.without
