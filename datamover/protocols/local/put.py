"""A small file that is written and placed together with others, by blocking calls."""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from datamover.protocols.base import Lack
from datamover.protocols.lacks import PRIVATE, Lacks
from datamover.protocols.local.beneath import encode
from datamover.protocols.local.descriptors import close, describe, flush, make_anew
from datamover.protocols.local.placing import LocalPlacement


@dataclass(slots=True, eq=False)
class Put:
    """One small file, and how far it has got. Its methods block, and raise OSError and NotOwn."""

    part: str
    target: str
    """In the same directory."""
    data: bytes
    mode: int
    modified: float | None
    replace: bool
    commit: Callable[[], None]
    """Called right before the file takes its name; if it raises, the file does not take it."""
    lacks: Lacks
    without: list[Lack] = field(init=False, default_factory=list)
    """What could not be done for the file."""
    placing: LocalPlacement | None = field(init=False, default=None)
    _descriptor: int = field(init=False, default=-1)

    @property
    def part_name(self) -> bytes:
        return encode(self.part.rpartition("/")[2])

    @property
    def name(self) -> bytes:
        return encode(self.target.rpartition("/")[2])

    def write(self, directory: int) -> None:
        """Write the part file, with its mode and time."""
        first = self.lacks.first_mode(self.mode)
        self._descriptor = make_anew(directory, self.part_name, first, PRIVATE | self.mode)
        before = os.fstat(self._descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.ENXIO, "not a regular file")
        offset, left = 0, memoryview(self.data)
        while left:
            written = os.pwrite(self._descriptor, left, offset)
            offset, left = offset + written, left[written:]
        if before.st_size > offset:
            os.ftruncate(self._descriptor, offset)
        self.without += describe(self._descriptor, self.mode, self.modified, self.lacks)

    def finish(self, directory: int) -> None:
        """Flush and close it; a network file system may raise only now that it could not store the bytes."""
        unflushed = flush(self._descriptor, self.lacks)
        if unflushed is not None:
            self.without.append(unflushed)
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def close(self) -> None:
        """Close the file, if it is still open because of an error."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            close(descriptor)
