"""The interface that a protocol implements to have its uploads made of part files."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from datamover.protocols.base import Inspection, Lack, Octets, Origin
from datamover.protocols.upload import Check, Stored

ProvePath = Callable[[str], Awaitable[None]]
"""Reads the file at a path below the root to its end, and raises an error of the family if it is wrong."""


class PartFileSink(Protocol):
    """One part file that is being written, in order, from the offset at which it was opened."""

    def write(self, data: Octets) -> Awaitable[None]:
        """Take the next bytes; completes when there is room for more, not when they are on disk."""
        ...

    async def flush(self) -> int:
        """Make the bytes taken so far durable, as far as the side can promise that; return the offset after the last.

        More may be written meanwhile. Cancelling discards the answer.
        """
        ...

    async def finish(self, *, modified: float | None) -> int:
        """Flush, set mode and modification time (POSIX seconds), close; return the size that the side then reports.

        Raises errors of closing: some sides report only then that they could not store the file. If an earlier
        attempt's part file was longer, its rest is cut off.
        """
        ...

    @property
    def without(self) -> Sequence[Lack]:
        """As ``protocols.upload.Upload.without``."""
        ...

    @property
    def doubtful(self) -> bool:
        """As ``protocols.upload.Upload.doubtful``."""
        ...

    @property
    def watched(self) -> bool:
        """As ``protocols.upload.Upload.watched``."""
        ...

    async def close(self) -> None:
        """Release everything and leave the part file; may be called at any time and more than once."""
        ...


class PartFiles(Protocol):
    """The part files below one root; paths are as in ``protocols.place.Place``."""

    async def inspect(self, path: str) -> Inspection | None:
        """As ``protocols.place.Place.inspect``."""
        ...

    def origin(self, path: str) -> Origin: ...

    async def list(self, path: str) -> list[str]:
        """As ``protocols.place.Place.list``."""
        ...

    async def open_part(self, part: str, target: str, *, offset: int = 0) -> PartFileSink:
        """Open the part file ``part`` for writing from ``offset``; offset 0 begins anew, whatever is there.

        Its errors, and those of the sink, name ``target``. Raises SizeMismatch if the part file has fewer than
        ``offset`` bytes, or if the side cannot continue a file (it then lacks RESUME).
        """
        ...

    async def place_part(
        self, part: str, target: str, *, size: int, replace: bool, prove: ProvePath | None = None
    ) -> Stored:
        """Give a finished part file of ``size`` bytes its target's name; completes and raises as ``Upload.commit``.

        A missing part file raises DestinationInvalid.

        If REPLACE_ATOMICALLY is lacking, a crash may leave nothing under the name, and the old file hidden beside it
        until this part file is placed or removed.
        """
        ...

    async def put_part(
        self, part: str, target: str, data: bytes, *, modified: float | None, replace: bool, commit: Check
    ) -> Stored:
        """Write a whole small file as ``part`` and place it; completes and raises as ``Upload.store``."""
        ...

    async def remove(self, path: str) -> None:
        """Remove one file; do nothing if it is missing. An old file that was set aside for it gets its name back."""
        ...
