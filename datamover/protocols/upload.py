"""The seam through which one file arrives at a destination, invisible until it is committed under its target's name.

How a file stays invisible is the protocol's own: a hidden part file and a rename (``part_files``), or an object store's
multipart upload. The engine keeps the token of what was saved, and does not look into it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from datamover.protocols.base import Lack, Octets, Origin

Prove = Callable[[Origin], Awaitable[None]]
"""Reads a file to its end; raises an error of the family where it is not what it must be."""

Check = Callable[[], None]
"""Raises where the caller may not change anything at the destination any more."""


def unchecked() -> None:
    """Raise nothing: a ``Check`` for a caller whom nobody else can stop."""


@dataclass(frozen=True, slots=True)
class UploadKey:
    """What tells the uploads of one transfer from all others, and those of the same bytes from those of other bytes."""

    transfer: str
    """The transfer's, unique over all installations; 64 characters at most of ASCII letters, digits and "-"."""
    content: str
    """Equal only where the same bytes are written; of the same characters."""


@dataclass(frozen=True, slots=True)
class Saved:
    """How much of an upload is durable, and from what it is gone on with."""

    offset: int
    """Bytes, contiguous from 0."""
    token: str
    """Opaque to all but its protocol, which makes the upload of it again in any process; JSON where it has parts."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a look at a file under its own name told, right after it took that name."""

    size: int
    """Bytes."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """What the side tells of the content: algorithm ("sha256" …) -> lower-case hex."""
    without: Sequence[Lack] = ()
    """What the file went without when it took its name."""


class Upload(Protocol):
    """One file that arrives, in order, invisible under its target's name until it is committed.

    What is made by ``Place.begin`` or ``Place.resume`` has asked nothing of the side yet. A file is either written
    (``open``, ``write``, ``finish``) and committed, by this or by another process, or stored by one call.
    """

    @property
    def offset(self) -> int:
        """Where the first byte that is written belongs: what was saved when it is resumed, else 0."""
        ...

    @property
    def token(self) -> str | None:
        """What ``Place.resume`` makes this upload of; None while nothing of it can be at the side."""
        ...

    @property
    def arrived(self) -> Origin | None:
        """What has arrived, to be read back before it is committed; None where the side does not let it be read."""
        ...

    async def exists(self) -> bool:
        """Tell whether the side still has what was saved.

        Where ``arrived`` is None, True also means that its bytes are those that were sent, by digests in the token.
        """
        ...

    async def open(self) -> None:
        """Make ready to be written from ``offset`` on; at 0 it begins anew, whatever an earlier attempt left.

        Raises SizeMismatch where the side has less than ``offset`` bytes, or lets no file be continued (RESUME is
        lacking from then on). Cancelled, it raises once ``token`` tells of all that it made.
        """
        ...

    def write(self, data: Octets) -> Awaitable[None]:
        """Take the next bytes; completes when there is room for more, not when they are durable."""
        ...

    async def flush(self) -> Saved:
        """Make what was taken durable, as far as the side can promise it; return how much that is.

        A side that takes parts of a least size may return less than what was taken. More may be written meanwhile.
        Cancelling lets go of the answer.
        """
        ...

    async def finish(self) -> Saved:
        """Make the whole file durable with its mode and time, and let go of it; return the size that the side tells.

        Raises what the side tells only now: some could not keep the bytes. What it returns can be committed by any
        process.
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
        """Whether the side's own connections end what stands still, with Stalled, ``idle_timeout`` after the last byte.

        Then ``write`` and ``flush`` may take as long as a slow network needs for all that is on its way.
        """
        ...

    async def commit(self, *, replace: bool, over: str | None = None, prove: Prove | None = None) -> Stored:
        """Give a finished file its target's name, check it there, and return what was found.

        Completes when the target is seen to have the upload's size, ``prove`` has found it right, and its name is
        durable. The upload, as the only other copy, and the old file, where KEEP_OLD is not lacking, are given up only
        then. A wrong file is removed and the old file put back: SizeMismatch, or what ``prove`` raises.
        Where the old file cannot be kept, ``prove`` is called with what arrived first, if that can be read.

        Called again after it was broken off, by any process, it completes. Without ``replace`` an existing target
        raises DestinationExists, and is left alone, as the upload is. A directory in the target's place raises
        DestinationInvalid. An upload that is not there any more raises SizeMismatch.

        With ``over``, the identity of what the target was found to be ("": nothing), a side that can be asked on such a
        condition replaces that alone: DestinationExists, which is then retryable.

        Replaces in one step, unless REPLACE_ATOMICALLY is lacking: then a crash may leave nothing of the name until
        the upload is committed or aborted.
        """
        ...

    def store(self, data: bytes, *, replace: bool, commit: Check) -> Awaitable[Stored]:
        """Write a whole small file and give it its name, in as few steps as the side allows.

        It stands for ``open``, ``write``, ``finish`` and ``commit``, and raises what these raise. The argument
        ``commit`` is called, maybe in a thread, right before the file takes the name; where it raises, it does not.
        After DestinationExists nothing of the upload is left. Cancelled, it raises once nothing of it is to come any
        more.
        """
        ...

    async def abort(self, check: Check = unchecked) -> None:
        """Remove what arrived, if anything is there; ``check`` is called before each request that changes something.

        What a commit that was broken off had put aside gets its name back. May be called after ``close``.
        """
        ...

    async def close(self) -> None:
        """Let go of what is held; what is durable stays. May be called at any time and more than once."""
        ...
