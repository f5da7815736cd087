"""How a part file takes its target's name on a server, in steps:

    keep        if the target exists and is to be replaced, give it a second, hidden name
    take_name   give the part file the target's name, and check the target
    settle      remove the part file's own name and the old file
    undone      instead of settle: remove a wrong file under the target's name, and restore the old one

A file is replaced in one step if the server can do that, otherwise the old file is set aside (``aside``). Answers are
not believed: servers say OK to links and renames that they do not make.
"""

import posixpath
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred

from datamover.errors import DataMoverError
from datamover.protocols.base import Ability, Lack
from datamover.protocols.lacks import Lacks
from datamover.protocols.part_files.names import OLD
from datamover.protocols.sftp import aside
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.messages import Attributes, SftpError
from datamover.protocols.sftp.client.session import SftpSession, outcomes
from datamover.protocols.sftp.metadata import SftpMetadata
from datamover.protocols.sftp.refusals import ServerRefusals


class SftpPlacement:
    """The placing of one finished part file. Steps raise SftpError, and DataMoverErrors for what they find wrong."""

    def __init__(
        self,
        session: SftpSession,
        part: bytes,
        name: bytes,
        *,
        target: str,
        size: int,
        replace: bool,
        measure: Callable[[], Awaitable[int]],
        refusals: ServerRefusals,
        lacks: Lacks,
        metadata: SftpMetadata | None = None,
    ) -> None:
        """Prepare to place ``part`` as ``name``, both real paths; messages call it ``target``.

        ``measure`` reads the target and returns its size in bytes, for servers that report none. With ``metadata`` the
        target is checked for that, too.
        """
        self._session = session
        self._part = part
        self.name = name
        self._target = target
        self._size = size
        self._replace = replace
        self._measure = measure
        self._refusals = refusals
        self._lacks = lacks
        self._metadata = metadata
        self.without: list[Lack] = []
        """What could not be done for the file."""
        self._before: Attributes | None = None
        """The attributes of the old file."""
        self._old_linked = False
        self._aside = False
        self._linked = False
        self._named = False
        self._suspected: dict[Ability, str] = {}
        """What was refused, or answered OK and not done; recorded as lacks if the alternative succeeds."""

    async def keep(self) -> bool:
        """Give the old file a second name; return whether there is none, or it is kept.

        If it cannot be kept, the part file is checked now.
        """
        if not self._replace:
            return True
        old = self._before = await self._session.find(self.name)
        if old is not None and await self._is_directory(old):
            raise self._refusals.directory(self._target)
        if old is None or not self._replaces_at_once:
            return True
        self._old_linked = self._links and await self._link_old()
        if not self._old_linked:
            found = await self._session.find(self._part)
            if found is None:
                raise SftpError(messages.NO_SUCH_FILE, "No such file")
            if found.size is not None and found.size != self._size and (found.size or not self._size):
                raise self._refusals.other_size(self._target, "in its part file", found.size, self._size)
        return self._old_linked

    async def take_name(self) -> None:
        """Give the part file the target's name and check the target; if it is wrong, undo that and raise."""
        try:
            found = await (self._take_over() if self._replace else self._claim())
        except SftpError as refusal:
            if refusal.code == messages.NO_SUCH_FILE and await self._session.find(self._part) is None:
                raise self._refusals.lost(self._target) from None
            raise
        try:
            await self._check(found)
        except DataMoverError as error:
            raise await self.undone(error) from None
        for ability, why in self._suspected.items():
            self._lacks.learn(ability, why)

    @property
    def settled(self) -> bool:
        """Whether ``settle`` has nothing to do."""
        return not (self._linked or self._old_linked or self._aside)

    async def settle(self) -> None:
        """Remove the part file's own name, and the old file."""
        if self._linked:
            await self._remove(self._part, "its part file")
        if self._old_linked:
            await self._remove(self._old, "the old file's second name")
        if self._aside:
            try:
                await aside.put_back(self._session, self._aside_name)
            except SftpError as refusal:
                why = f"the old file is left as {self._aside_name.decode('utf-8', 'replace')!r}: {refusal}"
                self.without.append(self._lacks.learn(Ability.REMOVE, why))

    async def undone(self, error: DataMoverError) -> DataMoverError:
        """Remove the file with the target's name, if it is the part file, restore the old one, and return ``error``.

        If the server refuses that, the error says so.
        """
        try:
            await self._undo()
        except SftpError as refusal:
            return error.saying(f"{error.message}; it could not be removed ({refusal})")
        return error

    async def _undo(self) -> None:
        if self._named and self._old_linked:
            await self._session.replace(self._old, self.name)
            self._old_linked = False
        elif self._named and await self._session.find(self.name) is not None:
            await self._session.remove_file(self.name)
        if self._old_linked:
            await self._session.remove(self._old)
        if self._aside:
            await aside.put_back(self._session, self._aside_name)

    # Naming ---------------------------------------------------------------------------------------------------

    @property
    def _old(self) -> bytes:
        return self._part + OLD.encode()

    @property
    def _aside_name(self) -> bytes:
        return posixpath.join(posixpath.dirname(self.name), posixpath.basename(self._part) + aside.ASIDE)

    @property
    def _replaces_at_once(self) -> bool:
        return self._session.can(messages.POSIX_RENAME) and Ability.REPLACE_ATOMICALLY not in self._lacks

    @property
    def _links(self) -> bool:
        """Whether second names can be given and removed again."""
        able = self._session.can(messages.HARD_LINK)
        return able and Ability.KEEP_OLD not in self._lacks and Ability.REMOVE not in self._lacks

    async def _link_old(self) -> bool:
        linking, looking = await self._and_look(self._old, lambda: self._session.link(self.name, self._old))
        self._suspect_link(_refusal(linking))
        found = None if isinstance(looking, BaseException) else looking
        if found is None and await self._session.find(self._old) is None:
            return False
        # Refused because it exists: an earlier attempt kept the old file, and what has its name now is that attempt's.
        self._suspected.pop(Ability.KEEP_OLD, None)
        return True

    def _suspect_link(self, refusal: SftpError | None) -> None:
        if refusal is None:
            self._suspected[Ability.KEEP_OLD] = "the server says OK to a second name, and makes none"
        elif refusal.code != messages.NO_SUCH_FILE:
            self._suspected[Ability.KEEP_OLD] = f"the server refuses a second name: {refusal}"

    async def _take_over(self) -> Attributes | None:
        """Rename the part file over the target; return what is found there."""
        if self._replaces_at_once:
            renaming, looking = await self._and_look(self.name, lambda: self._session.replace(self._part, self.name))
            refusal = _refusal(renaming)
            if refusal is None or await self._done():
                self._named = True
                self._lacks.saw(Ability.REPLACE_ATOMICALLY)
                return await self._renamed(looking)
            if refusal.code in (messages.NO_SUCH_FILE, *messages.FULL):
                raise refusal
            self._suspected[Ability.REPLACE_ATOMICALLY] = f"the server refuses posix-rename: {refusal}"
        await aside.put_back(self._session, self._aside_name)
        self._aside = await self._session.find(self.name) is not None
        if self._aside:
            await aside.set_aside(self._session, self.name, self._aside_name)
        try:
            return await self._rename()
        except SftpError:
            if self._aside:
                await aside.put_back(self._session, self._aside_name)
                self._aside = False
            raise

    async def _claim(self) -> Attributes | None:
        """Give the part file the target's name if nothing has it; return what is found there.

        OpenSSH's rename never replaces a file (sftp-server.c, process_rename); other servers' may, so there a second
        name is tried first.
        """
        ways = [self._rename, self._link]
        if not self._session.openssh:
            if await self._session.find(self.name) is not None:
                raise await self._exists()
            ways.reverse()
        refusals = []
        for way in ways:
            try:
                return await way()
            except SftpError as refusal:
                if refusal.code in messages.FULL:
                    raise
                if await self._session.find(self.name) is not None:
                    raise await self._exists() from None
                refusals.append(refusal)
        told = refusals[ways.index(self._rename)]
        if told.code == messages.UNSUPPORTED:
            raise self._refusals.cannot_rename(self._target, told)
        raise told

    async def _link(self) -> Attributes | None:
        """Link the part file to the target's name; return what is found there. Raises SftpError."""
        if not self._links:
            raise SftpError(messages.UNSUPPORTED, "no second names")
        linking, looking = await self._and_look(self.name, lambda: self._session.link(self._part, self.name))
        refusal = _refusal(linking)
        if refusal is None:
            found = None if isinstance(looking, BaseException) else looking
            found = found or await self._session.find(self.name)
            if found is not None:
                self._named = self._linked = True
                self._lacks.saw(Ability.KEEP_OLD)
                return found
        self._suspect_link(refusal)
        raise refusal or SftpError(messages.FAILURE, "OK, and there is no second name")

    async def _rename(self) -> Attributes | None:
        """Rename the part file to the target's name, which is free; return what is found there. Raises SftpError."""
        renaming, looking = await self._and_look(self.name, lambda: self._session.rename(self._part, self.name))
        refusal = _refusal(renaming)
        if refusal is not None and not await self._done():
            raise refusal
        self._named = True
        return await self._renamed(looking)

    async def _done(self) -> bool:
        """Tell whether a refused rename was done nevertheless: the part file is gone, and the target is there."""
        found = await self._session.find(self.name)
        return found is not None and self._right(found) and await self._session.find(self._part) is None

    async def _renamed(self, looking: Any) -> Attributes | None:
        """Return what was found at the target after a rename that was answered OK."""
        found = None if isinstance(looking, BaseException) else looking
        if not self._session.openssh and await self._session.find(self._part) is not None:
            found = await self._session.find(self.name)
            # Some servers copy instead of renaming: then the target is there, and is not the old file.
            if found is None or not self._right(found) or found == self._before:
                self._named = False
                raise await self.undone(self._refusals.not_renamed(self._target))
            self._linked = True
        return found

    async def _exists(self) -> DataMoverError:
        found = await self._session.find(self.name)
        if found is not None and await self._is_directory(found):
            return self._refusals.directory(self._target)
        return self._refusals.exists(self._target)

    async def _is_directory(self, found: Attributes) -> bool:
        """Tell whether the target is a directory, or a link to one, as far as the server reports it."""
        if found.directory or not (found.link or found.mode is None):
            return found.directory
        return await self._session.is_directory(self.name)

    # Looking --------------------------------------------------------------------------------------------------

    async def _and_look(self, name: bytes, ask: Callable[[], Deferred[None]]) -> tuple[Any, Any]:
        """Send a request and, together with it, a look at ``name``, which the server is to handle after it.

        Returns the result or the exception of each.
        """
        with self._session.together():
            asked: list[Deferred[Any]] = [ask(), self._session.stat(name)]
        answer, found = await outcomes(*asked)
        return answer, found

    async def _check(self, found: Attributes | None) -> None:
        """Raise ServerError or SizeMismatch if the target is not there, or not whole."""
        if found is None or not self._right(found):
            found = await self._looked_at_again()
        if self._metadata is not None:
            await self._metadata.check(self._session, self.name, found)

    async def _looked_at_again(self) -> Attributes:
        """Look again, alone: the first look was sent together with the request before it. Raises as ``_check``."""
        found = await self._session.find(self.name)
        if found is None:
            raise self._refusals.vanished(self._target)
        if found.size is None or (not found.size and self._size):
            held = await self._measured()
            if held != self._size:
                raise self._refusals.other_size(self._target, "under its name", held, self._size)
        elif not self._right(found):
            raise self._refusals.other_size(self._target, "under its name", found.size, self._size)
        return found

    def _right(self, found: Attributes) -> bool:
        return found.regular and found.size == self._size

    async def _measured(self) -> int:
        try:
            return await self._measure()
        except DataMoverError as error:
            raise self._refusals.untold(self._target, error) from error

    async def _remove(self, name: bytes, what: str) -> None:
        try:
            await self._session.remove(name)
        except SftpError as refusal:
            if await self._session.find(name) is None:
                return
            why = f"{what} stays, as {posixpath.basename(name).decode('utf-8', 'replace')!r}: {refusal}"
            self.without.append(self._lacks.learn(Ability.REMOVE, why))


def _refusal(answer: Any) -> SftpError | None:
    """Return the server's refusal, None for OK; raises the connection's errors."""
    if isinstance(answer, SftpError):
        return answer
    if isinstance(answer, BaseException):
        raise answer
    return None
