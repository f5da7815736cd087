"""How a part file takes its target's name on an FTP server, and what is checked before and after.

RFC 959 does not say whether RNTO replaces a file. So if nothing may be replaced, the target is looked up before, and if
a server refuses to replace, the old file is set ``aside``. Answers are not believed: the target is checked, and the
part file's name must be gone.
"""

import posixpath
from contextlib import suppress

from datamover.errors import DataMoverError
from datamover.protocols.base import Ability, Lack
from datamover.protocols.ftp import aside
from datamover.protocols.ftp.client.listing import FtpEntry
from datamover.protocols.ftp.client.replies import FtpRefusal
from datamover.protocols.ftp.client.session import FtpSession
from datamover.protocols.ftp.measure import measure
from datamover.protocols.ftp.refusals import FtpRefusals, Missing
from datamover.protocols.ftp.tree import FtpTree
from datamover.protocols.lacks import Lacks


class FtpPlacement:
    """The placing of one finished part file. The steps raise FtpRefusal, Missing and errors of the family."""

    def __init__(
        self,
        session: FtpSession,
        part: str,
        name: str,
        *,
        target: str,
        size: int,
        replace: bool,
        tree: FtpTree,
        refusals: FtpRefusals,
        lacks: Lacks,
    ) -> None:
        """Prepare to place ``part`` as ``name``, both real paths; messages call it ``target``."""
        self.session = session
        """The login for the next step; it may be exchanged between steps."""
        self._part = part
        self._name = name
        self._target = target
        self._size = size
        self._replace = replace
        self._tree = tree
        self._refusals = refusals
        self._lacks = lacks
        self.replaces = False
        """Whether the target exists; known after ``look``."""
        self._aside = False
        self._named = False
        self.without: list[Lack] = []
        """What could not be done for the file."""

    async def look(self) -> None:
        """Look at the target; raises if it may not be replaced, or if the part file is not whole."""
        old = await self._tree.find(self.session, self._name)
        if old is None and self._replace and await aside.put_back(self._tree, self.session, self._aside_name):
            # An interrupted attempt had set it aside.
            old = await self._tree.find(self.session, self._name)
        if old is not None and old.kind == "dir":
            raise self._refusals.directory(self._target)
        if old is not None and not self._replace:
            raise self._refusals.exists(self._target)
        self.replaces = old is not None
        if not self.replaces:
            return
        held = await self._held(self._part)
        if held is None:
            raise Missing
        if held != self._size:
            raise self._refusals.other_size(self._target, "in its part file", held, self._size)

    async def take_name(self) -> None:
        """Give the part file the target's name and check the target; if it is wrong, undo that and raise."""
        try:
            await self._rename()
            self._named = True
            await self._check()
        except DataMoverError as error:
            raise await self.undone(error) from None

    async def settle(self) -> None:
        """Remove the old file."""
        if self._aside:
            try:
                await aside.put_back(self._tree, self.session, self._aside_name)
            except FtpRefusal as refusal:
                why = f"the old file is left as {posixpath.basename(self._aside_name)!r}: {refusal}"
                self.without.append(self._lacks.learn(Ability.REMOVE, why))

    async def undone(self, error: DataMoverError) -> DataMoverError:
        """Remove the file with the target's name, if it is the part file, restore the old one, and return ``error``.

        If the server refuses that, the error says so.
        """
        try:
            found = await self._tree.find(self.session, self._name) if self._named else None
            if found is not None and found.kind != "dir":
                await self.session.ask("DELE", self._name)
            if self._aside:
                await aside.put_back(self._tree, self.session, self._aside_name)
        except FtpRefusal as refusal:
            return error.saying(f"{error.message}; it could not be removed ({refusal.code})", full=None)
        return error

    # ------------------------------------------------------------------------------------------------------------

    @property
    def _aside_name(self) -> str:
        return posixpath.join(posixpath.dirname(self._name), posixpath.basename(self._part) + aside.ASIDE)

    async def _rename(self) -> None:
        if not self.replaces:
            await self._renamed()
            return
        if Ability.REPLACE_ATOMICALLY not in self._lacks:
            try:
                await self._renamed()
            except FtpRefusal as refusal:
                if refusal.code in (421, 450, 451, 452, 530, 552):
                    raise
                why = f"the server does not rename onto a file: {refusal}"
            else:
                return
        else:
            why = ""
        await aside.set_aside(self._tree, self.session, self._name, self._aside_name)
        self._aside = True
        try:
            await self._renamed()
        except FtpRefusal:
            await aside.put_back(self._tree, self.session, self._aside_name)
            self._aside = False
            raise
        lack = self._lacks.learn(Ability.REPLACE_ATOMICALLY, why) if why else None
        lack = lack or self._lacks.get(Ability.REPLACE_ATOMICALLY)
        if lack is not None:
            self.without.append(lack)

    async def _renamed(self) -> None:
        try:
            await self.session.rename(self._part, self._name)
        except FtpRefusal as refusal:
            if await self._tree.find(self.session, self._part) is None:
                found = await self._tree.find(self.session, self._name)
                if found is not None and found.kind == "file" and found.size == self._size:
                    return  # It was done all the same.
                raise Missing from None
            if refusal.unsupported:
                raise self._refusals.cannot_rename(self._target, refusal) from None
            raise

    async def _check(self) -> None:
        """Raise ServerError or SizeMismatch if the target is not there, or not whole."""
        held = await self._held(self._name)
        if held is None:
            raise self._refusals.vanished(self._target)
        with suppress(FtpRefusal):
            await self.session.size(self._part)
            self._named = False
            raise self._refusals.not_renamed(self._target)
        if held != self._size:
            raise self._refusals.other_size(self._target, "under its name", held, self._size)

    async def _held(self, real: str) -> int | None:
        """Return how many bytes a file has, None if there is none."""
        found: FtpEntry | None = await self._tree.find(self.session, real)
        if found is None or found.kind != "file":
            return None
        return await measure(self.session, real, found)
