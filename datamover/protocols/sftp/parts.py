"""Part files on a server: opened to be written anew, or to be written on."""

from dataclasses import dataclass

from datamover.protocols.base import Ability
from datamover.protocols.lacks import Lacks
from datamover.protocols.sftp import messages
from datamover.protocols.sftp.link import Link
from datamover.protocols.sftp.messages import NOTHING, Attributes, Status
from datamover.protocols.sftp.refusals import Refusals
from datamover.protocols.sftp.session import Session
from datamover.protocols.sftp.tree import Tree

_ANEW = messages.FOR_WRITING | messages.CREATE | messages.EXCLUSIVELY
"""Of a file that is not there, as a part file mostly is not: one request tells, and makes it."""


@dataclass(frozen=True, slots=True)
class OpenPart:
    """A part file that is open for writing."""

    real: bytes
    handle: bytes
    found: Attributes | None
    """What was there before, None where it was made."""

    def longer_than(self, size: int) -> bool:
        """Tell whether more bytes than ``size`` may stand in it."""
        return self.found is not None and (self.found.size is None or self.found.size > size)


class Parts:
    """Opens the part files of one place; they will have ``mode``."""

    def __init__(self, tree: Tree, mode: int, refusals: Refusals, lacks: Lacks) -> None:
        self._tree = tree
        self._mode = mode
        self.refusals = refusals
        self.lacks = lacks

    async def open(self, link: Link, session: Session, part: str, offset: int) -> OpenPart:
        """Open a part file for writing from ``offset``, where nothing else is in its way.

        Raises Status, and SizeMismatch where there is nothing to be written on, or the server does not let that be.
        """
        real = await self._tree.name(link, session, part, make=not offset)
        private = Attributes(mode=self.lacks.first_mode(self._mode))
        if not offset:
            try:
                return OpenPart(real, await session.open_file(real, _ANEW, private), None)
            except Status as refusal:
                if refusal.code == messages.NO_SUCH_FILE:
                    raise
        found = await session.find(real)
        if offset and (found is None or (found.size or 0) < offset):
            raise self.refusals.short(part, (found.size if found else None) or 0, offset)
        if found is not None:
            self._check_usable(part, found)
        flags = messages.FOR_WRITING | (0 if offset else messages.CREATE)
        try:
            return OpenPart(real, await session.open_file(real, flags, private), found or NOTHING)
        except Status as refusal:
            if refusal.code in messages.FULL:
                raise
            if offset:
                self.lacks.learn(Ability.RESUME, f"the server refuses it: {refusal}")
                raise self.refusals.not_again(part, refusal) from refusal
            return await self._open_emptied(session, real, found, refusal)

    async def _open_emptied(self, session: Session, real: bytes, found: Attributes | None, refusal: Status) -> OpenPart:
        """Open a part file that is removed, or emptied, before: a server may open none to be written over."""
        try:
            if found is not None:
                await session.remove(real)
            return OpenPart(real, await session.open_file(real, messages.FOR_WRITING | messages.CREATE), None)
        except Status:
            try:
                flags = messages.FOR_WRITING | messages.CREATE | messages.EMPTIED
                return OpenPart(real, await session.open_file(real, flags), None)
            except Status:
                raise refusal from None

    def _check_usable(self, part: str, found: Attributes) -> None:
        if found.link:
            raise self.refusals.unusable(part, "is a symbolic link where a part file is needed; remove it")
        if not found.regular:
            raise self.refusals.unusable(part, "is not a regular file; remove it or take another name")
