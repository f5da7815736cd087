"""Resolve paths below a root on an FTP server, so that no path leads out of it, as far as the server shows links.

A directory is entered, and the server is asked for the working directory, which must lie below the root. The answer is
reused for a moment. Some servers return the path that they were given (pyftpdlib); there the listing of the parent is
searched for links. STAT shows whether a file is a link. A server that hides links (ProFTPD with ShowSymlinks off) has
to confine its logins itself.
"""

import posixpath
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from datamover.bounds.servers import MOST_FTP_LINKS
from datamover.errors import DestinationForbidden, SourceForbidden
from datamover.protocols.base import Ability
from datamover.protocols.ftp.client.listing import FtpEntry, fact_entry, line_entry
from datamover.protocols.ftp.client.replies import FtpRefusal
from datamover.protocols.ftp.client.session import FtpSession, says_missing
from datamover.protocols.ftp.refusals import FtpRefusals, Missing
from datamover.protocols.lacks import Lacks

T = TypeVar("T")

FRESH = 2.0
"""Seconds for which a directory's real path is reused."""
FRESH_AS_LISTED = 30.0
"""The same on servers where finding it out takes listings."""
_REMEMBERED = 1000


class FtpTree:
    """The paths below ``root``: an absolute path, or one that begins with "~", the directory of the login.

    ``directories`` are those that were resolved: path -> when, and its real path.
    """

    def __init__(
        self,
        clock: Any,
        root: str,
        directory_mode: int,
        refusals: FtpRefusals,
        lacks: Lacks,
        directories: dict[str, tuple[float, str]],
    ) -> None:
        self._clock = clock
        self._root = root
        self._directory_mode = directory_mode
        self._refusals = refusals
        self._lacks = lacks
        self._directories = directories

    async def directory(self, session: FtpSession, path: str, *, make: bool = False) -> str:
        """Return a directory's real path. Raises PathNotAllowedHere, Missing, FtpRefusal."""
        when, real = self._directories.get(path, (0.0, ""))
        if real and self._clock.seconds() - when < (FRESH if session.resolves else FRESH_AS_LISTED):
            return real
        root = await self.directory(session, "", make=make) if path else None
        absolute = self.absolute(session, path)
        if path and not session.resolves:
            above, name = posixpath.split(path)
            absolute = posixpath.join(await self.directory(session, above, make=make), name)
        real = await self._enter(session, absolute, path, root, make)
        if root is not None:
            self._check_inside(path, real, root)
            if not session.resolves:
                real = await self._followed(session, path, real)
        if len(self._directories) >= _REMEMBERED:
            self._directories.clear()
        self._directories[path] = (self._clock.seconds(), real)
        return real

    def forget(self) -> None:
        """Forget the resolved directories, because something was not where it was expected."""
        self._directories.clear()

    async def name(self, session: FtpSession, path: str, *, make: bool = False) -> str:
        """Return the real path of a file; if the file is a link, the link's own."""
        parent, name = posixpath.split(path.rstrip("/"))
        if not name:
            raise self._refusals.unusable(path, "is the destination's root; name a file")
        return posixpath.join(await self.directory(session, parent, make=make), name)

    async def target(self, session: FtpSession, path: str, links: int = 0) -> tuple[str, FtpEntry | None]:
        """Return the real path of a file, links followed, and its entry, None if there is none."""
        path = path.strip("/")
        if not path:
            return await self.directory(session, ""), FtpEntry("", "dir")
        real = await self.name(session, path)
        found = await self.find(session, real, path)
        if found is None or found.kind not in ("file", "link"):
            if found is not None and found.kind == "dir":
                await self._check_directory(session, path)
            return real, found
        link, _ = await self._line(session, real)
        if found.kind == "file" and (link is None or link.kind != "link"):
            return real, found
        link = link or found
        leads = await self._leads(session, path, posixpath.dirname(real), link)
        if links >= MOST_FTP_LINKS:
            raise self._refusals.unusable(path, "is a symbolic link in a loop of links; name a file")
        return await self.target(session, leads, links + 1)

    async def _check_directory(self, session: FtpSession, path: str) -> None:
        """Check that a directory lies below the root, unless the login may not enter it."""
        with suppress(FtpRefusal, Missing, DestinationForbidden, SourceForbidden):
            await self.directory(session, path)

    async def find(self, session: FtpSession, real: str, path: str = "") -> FtpEntry | None:
        """Return the entry of a file, links followed by the server; None if there is none."""
        try:
            return await self._told(session, real)
        except FtpRefusal as refusal:
            if refusal.code in (421, 530):
                raise
            first = refusal
        if "MLST" in session.features and says_missing(first):
            return None
        try:
            await session.enter(real)
        except FtpRefusal:
            parent, name = posixpath.split(real)
            found = await self._entry(session, parent, name, first)
        else:
            return FtpEntry(posixpath.basename(real), "dir")
        if found is not None and found.kind == "link":
            # The server did not follow it: its target is missing, or outside of what the login may see.
            await self._leads(session, path, parent, found)
            return None
        return found

    async def _entry(self, session: FtpSession, parent: str, name: str, first: FtpRefusal) -> FtpEntry | None:
        """Return the entry of a file in a directory, links not followed, after the server refused a look by ``first``.

        Raises FtpRefusal if the server gives no entry.
        """
        found, sure = await self._line(session, posixpath.join(parent, name))
        if found is not None or sure or says_missing(first):
            return found
        try:
            entries = await self.entries(session, parent, links=True)
        except FtpRefusal:
            raise first from None
        return next((entry for entry in entries if entry.name == name), None)

    async def entries(self, session: FtpSession, real: str, *, links: bool = False) -> list[FtpEntry]:
        """Return the entries of a directory, hidden ones included; with ``links``, links are to be shown as such."""
        await session.enter(real)
        if "MLST" in session.features and not links:
            try:
                return [entry for entry in await session.listing(fact_entry, "MLSD") if entry is not None]
            except FtpRefusal as refusal:
                if not refusal.unsupported:
                    raise
        try:
            told = await _listed(session, _line, "LIST")
        except FtpRefusal as refusal:
            if links or not refusal.unsupported:
                raise
            return await self._named(session)
        if None in told and not links:
            return await self._named(session)
        return [entry for entry in told if isinstance(entry, FtpEntry)]

    async def _named(self, session: FtpSession) -> list[FtpEntry]:
        """Return the entries of the working directory of a server that lists names only."""
        return await _listed(session, lambda name: FtpEntry(posixpath.basename(name), "other"), "NLST")

    async def free(self, session: FtpSession) -> int | None:
        """Return how many bytes may be written below the root, by AVBL (draft-peterson-streamlined-ftp).

        If the root does not exist yet, the directory above it is asked for.
        """
        if Ability.FREE_SPACE in self._lacks:
            return None
        try:
            text = (await session.ask("AVBL", await self._nearest(session))).text.strip().replace(",", "")
        except (FtpRefusal, Missing) as refusal:
            self._lacks.learn(Ability.FREE_SPACE, f"the server refuses it: {refusal}")
            return None
        return int(text) if text.isascii() and text.isdigit() else None

    async def _nearest(self, session: FtpSession) -> str:
        """Return the real path of the root, or of the lowest directory above it that exists."""
        try:
            return await self.directory(session, "")
        except Missing:
            path = self.absolute(session, "")
        while path != "/":
            path = posixpath.dirname(path)
            with suppress(FtpRefusal):
                await session.enter(path)
                return path
        return path

    def absolute(self, session: FtpSession, path: str) -> str:
        """Return the absolute path of a path below the root; links are not followed."""
        root = posixpath.join(session.home, self._root[2:]) if self._root.startswith("~") else self._root
        return posixpath.join(root, path).rstrip("/") or "/"

    # ------------------------------------------------------------------------------------------------------------

    async def _followed(self, session: FtpSession, path: str, real: str) -> str:
        """Return the real path of a directory on a server that reports none, by searching its parent for links."""
        above, name = posixpath.split(path)
        parent = await self.directory(session, above)
        try:
            entries = await self.entries(session, parent, links=True)
        except FtpRefusal as refusal:
            if refusal.code < 500 or refusal.code == 530:
                raise
            return real  # It tells of no links.
        if any(entry.name == name and entry.kind == "link" for entry in entries):
            [link] = [entry for entry in entries if entry.name == name]
            return await self.directory(session, await self._leads(session, path, parent, link))
        return real

    async def _told(self, session: FtpSession, real: str) -> FtpEntry:
        if "MLST" in session.features:
            found = await session.facts(real)
            if found is not None:
                return found
        sizing = Deferred.fromCoroutine(session.size(real))
        timing = Deferred.fromCoroutine(session.modified(real))
        try:
            size = await sizing
        except BaseException:
            timing.addErrback(lambda _: None)
            timing.cancel()
            raise
        modified = await timing
        if await session.sizes_directories(posixpath.dirname(real)):
            with suppress(FtpRefusal):
                await session.enter(real)
                return FtpEntry(posixpath.basename(real), "dir", modified=modified)
        return FtpEntry(posixpath.basename(real), "file", size, modified)

    async def _line(self, session: FtpSession, real: str) -> tuple[FtpEntry | None, bool]:
        """Return the entry of a file from STAT, and whether the answer is certain."""
        name = posixpath.basename(real)
        sure = False
        # vsftpd shows hidden names only when it is asked to.
        for argument in ([f"-a {real}"] if name.startswith(".") else []) + [real]:
            try:
                directory, lines = await session.status(argument)
            except FtpRefusal as refusal:
                sure = sure or says_missing(refusal)
                continue
            sure = True
            # ftp-srv says of a file, too, that it is a directory; its line has the whole path then.
            of_it = [line for line in lines if line.name == real]
            if directory and not of_it:
                return FtpEntry(name, "dir"), True
            for line in of_it or lines:
                if posixpath.basename(line.name) == name:
                    return line, True
        return None, sure

    async def _leads(self, session: FtpSession, path: str, parent: str, link: FtpEntry) -> str:
        """Return where a link leads, as a path below the root. Raises PathNotAllowedHere."""
        root = await self.directory(session, "")
        if link.target is None:
            raise self._refusals.outside(path)
        real = posixpath.normpath(posixpath.join(parent, link.target))
        self._check_inside(path, real, root)
        return real.removeprefix(root.rstrip("/")).strip("/")

    def _check_inside(self, path: str, real: str, root: str) -> None:
        if real != root and not real.startswith(root.rstrip("/") + "/"):
            raise self._refusals.outside(path)

    async def _enter(self, session: FtpSession, absolute: str, path: str, root: str | None, make: bool) -> str:
        try:
            return await session.enter(absolute)
        except FtpRefusal as refusal:
            if absolute == "/" or refusal.code < 500 or refusal.code == 530:
                raise
            first = refusal
        above, name = posixpath.split(absolute)
        parent = await self._enter(session, above, path, root, make)
        if root is not None:
            self._check_inside(path, parent, root)
        found = None
        if "not a directory" in first.meaning or not says_missing(first):
            try:
                found = await self._entry(session, parent, name, first)
            except FtpRefusal:
                if not make:
                    raise
                # Nobody tells what is there: it is made, and one sees.
        if found is not None:
            if found.kind == "dir":
                try:
                    return await session.enter(posixpath.join(parent, name))  # Another transfer may have made it.
                except FtpRefusal as refusal:
                    raise self._refusals.closed(path) from refusal
            if found.kind == "link" and root is not None:
                await self._leads(session, path, parent, found)
            if make:
                raise self._refusals.file_in_the_way(path)
            raise Missing
        if not make:
            raise Missing
        try:
            await self._make(session, posixpath.join(parent, name))
        except FtpRefusal:
            found = await self.find(session, posixpath.join(parent, name))
            if found is not None and found.kind != "dir":
                raise self._refusals.file_in_the_way(path) from None
            raise
        return await session.enter(posixpath.join(parent, name))

    async def _make(self, session: FtpSession, real: str) -> None:
        try:
            await session.ask("MKD", real)
        except FtpRefusal:
            try:
                await session.enter(real)
            except FtpRefusal:
                pass
            else:
                return  # Another transfer has made it meanwhile.
            raise
        if Ability.SET_MODE in self._lacks:
            return
        try:
            await session.ask("SITE", f"CHMOD {self._directory_mode:o} {real}")
        except FtpRefusal as refusal:
            self._lacks.learn(Ability.SET_MODE, f"the server refuses it: {refusal}")


def _line(line: str) -> FtpEntry | str | None:
    """Return the entry in a line of LIST, the line where it tells of no file, None for one that is not understood."""
    return line if line.startswith("total ") else line_entry(line)


async def _listed(session: FtpSession, parse: Callable[[str], T], verb: str) -> list[T]:
    """Return the lines of a listing of the working directory, with hidden names if the server can show them."""
    try:
        return await session.listing(parse, verb, "-a")
    except FtpRefusal:
        # Some servers take the option for a name.
        return await session.listing(parse, verb)
