"""What a protocol provides whose uploads are part files: they are written, placed, put and removed by their paths."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from datamover.protocols.base import Inspection, Lack, Octets, Origin
from datamover.protocols.upload import Check, Stored

ProvePath = Callable[[str], Awaitable[None]]
"""Reads the file at a path below the root to its end; raises an error of the family where it is not what it must be."""


class PartFileSink(Protocol):
    """One part file being written, in order, from the offset it was opened at."""

    def write(self, data: Octets) -> Awaitable[None]:
        """Take the next bytes; completes when there is room for more, not when they are on disk."""
        ...

    async def flush(self) -> int:
        """Wait until every byte taken so far is durable, as far as the side can promise it; return the offset after it.

        More may be written meanwhile. Cancelling lets go of the answer.
        """
        ...

    async def finish(self, *, modified: float | None) -> int:
        """Flush, set mode and modification time (POSIX seconds), close; return the size the side then tells.

        Raises what closing the file told: some sides say only then that they could not keep it. Bytes that a longer
        predecessor left behind the last one written are cut off.
        """
        ...

    @property
    def without(self) -> Sequence[Lack]:
        """What the file went without, once it is finished."""
        ...

    @property
    def doubtful(self) -> bool:
        """Whether continuing may have lost what stood before the offset, which only reading shows."""
        ...

    @property
    def watched(self) -> bool:
        """As ``protocols.upload.Upload.watched``."""
        ...

    async def close(self) -> None:
        """Let go of what is held and leave the part file; may be called at any time and more than once."""
        ...


class PartFiles(Protocol):
    """The part files below one root; every path as in ``protocols.place.Place``."""

    async def inspect(self, path: str) -> Inspection | None:
        """Inspect one name; None where there is nothing."""
        ...

    def origin(self, path: str) -> Origin: ...

    async def list(self, path: str) -> list[str]:
        """Return the names in a directory, without "." and ".."; an empty list where there is none."""
        ...

    async def open_part(self, part: str, target: str, *, offset: int = 0) -> PartFileSink:
        """Open the part file ``part`` for writing from ``offset``; offset 0 begins anew, whatever is there.

        Errors, of writing too, name the file ``target``, which it is to be.

        An offset beyond what the part file holds, or where the side lets no file be continued (RESUME is then
        lacking), raises SizeMismatch.
        """
        ...

    async def place_part(
        self, part: str, target: str, *, size: int, replace: bool, prove: ProvePath | None = None
    ) -> Stored:
        """Give a finished part file its target's name, check it there, and return what was found.

        Completes when the target is seen to hold ``size`` bytes, ``prove`` has found it right, and its name is durable.
        The part file, as the only other copy, and the old file, where KEEP_OLD is not lacking, are given up only then.
        A wrong file is removed and the old file put back: SizeMismatch, or what ``prove`` raises. Where the
        old file cannot be kept, ``prove`` is called with the part file first.

        Replaces in one step, unless REPLACE_ATOMICALLY is lacking: then a crash may leave nothing of the name, and the
        old file hidden beside it until this part file is placed or removed.

        Without ``replace`` an existing target raises DestinationExists and is left alone. A directory in the
        target's place raises DestinationInvalid.
        """
        ...

    async def put_part(
        self, part: str, target: str, data: bytes, *, modified: float | None, replace: bool, commit: Check
    ) -> Stored:
        """Write a whole small file as ``part`` and place it, in as few steps as the side allows.

        Completes when it is durable under ``target``, and was checked there. ``commit`` is called, maybe in a
        thread, right before it takes that name; where it raises, it does not. Raises what ``open_part``, ``finish`` and
        ``place_part`` raise; after DestinationExists there is no part file. Cancelled, it raises once nothing of it is
        to come any more.
        """
        ...

    async def remove(self, path: str) -> None:
        """Remove one file; a missing one is fine. What placing it left hidden beside its target is put back by that."""
        ...
