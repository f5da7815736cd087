"""A small file that is written and placed in one go, by blocking calls."""

import errno
import os
import posixpath
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from datamover.protocols.local.beneath import encode
from datamover.protocols.local.descriptors import set_modified

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(slots=True, eq=False)
class Put:
    """One small file. What it does blocks, and raises OSError."""

    part: str
    target: str
    """In the same directory."""
    data: bytes
    mode: int
    modified: float | None
    replace: bool
    commit: Callable[[], None]
    """Called right before the file takes its name; where it raises, it does not."""
    _descriptor: int = field(init=False, default=-1)

    @property
    def part_name(self) -> bytes:
        return encode(posixpath.basename(self.part))

    @property
    def name(self) -> bytes:
        return encode(posixpath.basename(self.target))

    def write(self, directory: int) -> None:
        """Write the part file, with its mode and time."""
        self._descriptor = os.open(self.part_name, _FLAGS, 0o600, dir_fd=directory)
        before = os.fstat(self._descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.ENXIO, "not a regular file")
        offset, left = 0, memoryview(self.data)
        while left:
            written = os.pwrite(self._descriptor, left, offset)
            offset, left = offset + written, left[written:]
        if before.st_size > offset:
            os.ftruncate(self._descriptor, offset)
        os.fchmod(self._descriptor, self.mode)
        if self.modified is not None:
            set_modified(self._descriptor, self.modified)

    def sync(self, directory: int) -> None:
        """Flush it."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
