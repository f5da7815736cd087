"""Open part files on a server, to begin or to continue them."""

from dataclasses import dataclass

from datamover.protocols.base import Ability
from datamover.protocols.lacks import Lacks
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.link import Link
from datamover.protocols.sftp.client.messages import NOTHING, Attributes, SftpError
from datamover.protocols.sftp.client.session import SftpSession
from datamover.protocols.sftp.refusals import ServerRefusals
from datamover.protocols.sftp.tree import SftpTree

_ANEW = messages.FOR_WRITING | messages.CREATE | messages.EXCLUSIVELY | messages.EMPTIED
"""For a part file that does not exist yet, the usual case: one request finds out and creates it. It is also emptied,
since some servers ignore "exclusively"."""
_PLAINLY = messages.FOR_WRITING | messages.CREATE
_EMPTIED = messages.FOR_WRITING | messages.CREATE | messages.EMPTIED


@dataclass(frozen=True, slots=True)
class OpenPart:
    """A part file that is open for writing, under its ``real`` path."""

    real: bytes
    handle: bytes
    found: Attributes | None
    """The attributes it had before; None if it was created."""

    def longer_than(self, size: int) -> bool:
        """Tell whether it may hold more bytes than ``size``."""
        return self.found is not None and (self.found.size is None or self.found.size > size)


class SftpParts:
    """Opens the part files of one place; they will have ``mode``."""

    def __init__(self, tree: SftpTree, mode: int, refusals: ServerRefusals, lacks: Lacks) -> None:
        self._tree = tree
        self._mode = mode
        self.refusals = refusals
        self.lacks = lacks

    async def open(self, link: Link, session: SftpSession, part: str, target: str, offset: int) -> OpenPart:
        """Open a part file for writing from ``offset``; 0 begins anew.

        Raises SftpError, SizeMismatch if it cannot be continued, and DestinationInvalid if another kind of file has its
        name.
        """
        real = await self._tree.name(link, session, part, make=not offset)
        if offset:
            return await self._open_again(session, real, part, target, offset)
        private = Attributes(mode=self.lacks.first_mode(self._mode))
        try:
            return OpenPart(real, await session.open_file(real, _ANEW, private), None)
        except SftpError as refusal:
            if refusal.code == messages.NO_SUCH_FILE:
                raise
            first = refusal
        found = await session.find(real)
        if found is not None:
            self._check_usable(part, found)
            if await self._removed(session, real):
                found = None
        # Some servers do not support "exclusively", a mode, or overwriting a file.
        for flags, attributes in ((_PLAINLY, private), (_EMPTIED, NOTHING)):
            try:
                handle = await session.open_file(real, flags, attributes)
            except SftpError:
                continue
            return OpenPart(real, handle, found if flags == _PLAINLY else None)
        raise first

    async def _open_again(self, session: SftpSession, real: bytes, part: str, target: str, offset: int) -> OpenPart:
        """Open a part file to continue it."""
        found = await session.find(real)
        if found is None or (found.size or 0) < offset:
            raise self.refusals.short(target, (found.size if found else None) or 0, offset)
        self._check_usable(part, found)
        try:
            return OpenPart(real, await session.open_file(real, messages.FOR_WRITING), found)
        except SftpError as refusal:
            self.lacks.learn(Ability.RESUME, f"the server refuses it: {refusal}")
            raise self.refusals.not_again(target, refusal) from refusal

    async def _removed(self, session: SftpSession, real: bytes) -> bool:
        """Remove an earlier attempt's part file and tell whether that was possible."""
        try:
            await session.remove(real)
        except SftpError:
            return False
        return True

    def _check_usable(self, part: str, found: Attributes) -> None:
        if found.link:
            raise self.refusals.unusable(part, "is a symbolic link where a part file is needed; remove it")
        if not found.regular:
            raise self.refusals.special(part)
