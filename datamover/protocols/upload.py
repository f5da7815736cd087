"""The interface by which one file is uploaded to a destination: it is invisible until it is committed under its name.

How it stays invisible is up to the protocol: a hidden part file and a rename (``part_files``), or the multipart upload
of an object store. The engine stores an upload's token and does not interpret it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from datamover.protocols.base import Lack, Octets, Origin

Prove = Callable[[Origin], Awaitable[None]]
"""Reads a file to its end and raises an error of the family if it is wrong."""

Check = Callable[[], None]
"""Raises if the caller may no longer change anything at the destination."""


def unchecked() -> None:
    """Do nothing: a ``Check`` for a caller that nobody else can stop."""


@dataclass(frozen=True, slots=True)
class UploadKey:
    """Identifies the uploads of one transfer, and among them those of the same content."""

    transfer: str
    """Unique over all installations; at most 64 ASCII letters, digits and "-"."""
    content: str
    """Equal only if the same bytes are written; of the same characters."""


@dataclass(frozen=True, slots=True)
class Saved:
    """How much of an upload is durable, and the token by which it is resumed."""

    offset: int
    """Bytes, contiguous from 0."""
    token: str
    """Opaque to all but its protocol, which resumes the upload from it in any process."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the side reported of a file under its target's name, right after the commit."""

    size: int
    """Bytes."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """The digests that the side reports: algorithm ("sha256" …) -> lower-case hex."""
    without: Sequence[Lack] = ()
    """What the commit could not do for the file."""


class Upload(Protocol):
    """One file that is uploaded, in order, invisible under its target's name until it is committed.

    ``Place.begin`` and ``Place.resume``, which return it, send nothing to the side. A file is either written (``open``,
    ``write``, ``finish``) and committed, by this or another process, or stored by one call.
    """

    @property
    def offset(self) -> int:
        """Where the first byte that is written belongs: the saved offset if it is resumed, else 0."""
        ...

    @property
    def token(self) -> str | None:
        """The token for ``Place.resume``; None as long as the side can have nothing of this upload."""
        ...

    @property
    def arrived(self) -> Origin | None:
        """The bytes uploaded so far, to be read back before the commit; None if the side does not let them be read."""
        ...

    async def exists(self) -> bool:
        """Tell whether the side still has what was saved.

        If ``arrived`` is None, True also means that the side's bytes match the digests in the token.
        """
        ...

    async def open(self) -> None:
        """Prepare for writing from ``offset`` on; at 0 the upload begins anew, whatever an earlier attempt left.

        Raises SizeMismatch if the side has fewer than ``offset`` bytes or cannot continue a file (it then lacks
        RESUME). When cancelled, it raises only after ``token`` covers all that it made.
        """
        ...

    def write(self, data: Octets) -> Awaitable[None]:
        """Take the next bytes; completes when there is room for more, not when they are durable."""
        ...

    async def flush(self) -> Saved:
        """Make the bytes taken so far durable, as far as the side can promise that; return how many are.

        That may be fewer than were taken, if parts have a least size. More may be written meanwhile. Cancelling
        discards the answer.
        """
        ...

    async def finish(self) -> Saved:
        """Make the whole file durable with its mode and time, and release it; return the size that the side reports.

        Some sides report only now that they could not store the bytes; that is raised. Any process can commit what is
        returned.
        """
        ...

    @property
    def without(self) -> Sequence[Lack]:
        """What the side could not do for the file; complete after ``finish``."""
        ...

    @property
    def doubtful(self) -> bool:
        """Whether the bytes before the offset may have been lost when it was continued; only reading them shows it."""
        ...

    @property
    def watched(self) -> bool:
        """Whether the protocol itself raises Stalled when nothing has moved for ``idle_timeout``.

        If so, ``write`` and ``flush`` may take as long as a slow network needs for all bytes in flight.
        """
        ...

    async def commit(self, *, replace: bool, over: str | None = None, prove: Prove | None = None) -> Stored:
        """Give a finished file its target's name, check it there, and return what was found.

        Completes when the target has the upload's size, ``prove`` has accepted it, and its name is durable. Only then
        are the upload and, unless KEEP_OLD is lacking, the old file removed. A wrong file is removed and the old one
        restored; raises SizeMismatch, or what ``prove`` raises. If the old file cannot be kept, ``prove`` is called
        with ``arrived`` first.

        If it was interrupted, any process may call it again. If the target exists and ``replace`` is false, it raises
        DestinationExists and changes neither target nor upload. It raises DestinationInvalid if the target is a
        directory, SizeMismatch if the upload no longer exists.

        ``over`` is the identity that the target was found to have ("": there was none). A side that supports
        conditional requests replaces only that; otherwise it raises a DestinationExists that is retryable.

        It replaces in one step, unless REPLACE_ATOMICALLY is lacking: then a crash may leave nothing under the name
        until the upload is committed or aborted.
        """
        ...

    def store(self, data: bytes, *, replace: bool, commit: Check) -> Awaitable[Stored]:
        """Write a whole small file under its target's name, in as few steps as the side allows.

        It replaces ``open``, ``write``, ``finish`` and ``commit``, and raises what they raise. The argument ``commit``
        is called, possibly in a thread, right before the file takes the name; if it raises, the file does not take it.
        After DestinationExists nothing of the upload is left. When cancelled, it raises only after its last request
        has ended.
        """
        ...

    async def abort(self, check: Check = unchecked) -> None:
        """Remove what was uploaded, if anything; ``check`` is called before each request that changes something.

        An old file that an interrupted commit set aside gets its name back. May be called after ``close``.
        """
        ...

    async def close(self) -> None:
        """Release everything; what is durable stays. May be called at any time and more than once."""
        ...
