"""Resolve paths below a root on a server, so that no path and no symbolic link leads out of it.

The server is asked for the real path of a file's directory, which must lie below the real path of the root. The answer
is reused for a moment, for directories of many small files. If another user of the server creates a link there in that
moment, only the server's permissions, or a chroot, can prevent harm.
"""

import posixpath
from collections.abc import Awaitable
from typing import Any

from datamover.protocols.base import Ability
from datamover.protocols.lacks import Lacks
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.link import Link
from datamover.protocols.sftp.client.messages import Attributes, SftpError, decode, encode
from datamover.protocols.sftp.client.session import SftpSession, Space, begun
from datamover.protocols.sftp.refusals import ServerRefusals

FRESH = 2.0
"""Seconds for which a directory's real path is reused."""
_REMEMBERED = 1000
_NOT_THERE = (messages.NO_SUCH_FILE, messages.FAILURE, messages.PERMISSION_DENIED, messages.UNSUPPORTED)
"""The codes by which servers may say that nothing is there; whether that is meant shows when it is created."""


class SftpTree:
    """The paths below ``root``; missing directories are made with ``directory_mode``."""

    def __init__(self, clock: Any, root: str, directory_mode: int, refusals: ServerRefusals, lacks: Lacks) -> None:
        self._clock = clock
        self._root = encode(root)
        self._directory_mode = directory_mode
        self._refusals = refusals
        self._lacks = lacks

    async def directory(self, link: Link, session: SftpSession, path: str, *, make: bool = False) -> bytes:
        """Return the real path of a directory. Raises PathNotAllowedHere, and SftpError if it is missing."""
        when, real = link.directories.get(path, (0.0, b""))
        if real and self._clock.seconds() - when < FRESH:
            return real
        root = await self.directory(link, session, "", make=make) if path else None
        real = await self._resolve(session, self.absolute(path), path, root, make)
        if len(link.directories) >= _REMEMBERED:
            link.directories.clear()
        link.directories[path] = (self._clock.seconds(), real)
        return real

    async def name(self, link: Link, session: SftpSession, path: str, *, make: bool = False) -> bytes:
        """Return the real path of a file; if the file is a link, the link's own."""
        parent, name = posixpath.split(path.rstrip("/"))
        if not name:
            raise self._refusals.unusable(path, "is the destination's root; name a file")
        return posixpath.join(await self.directory(link, session, parent, make=make), encode(name))

    async def target(self, link: Link, session: SftpSession, path: str) -> tuple[bytes, Attributes | None]:
        """Return the real path of a file, links followed, and its attributes, None if there is none."""
        absolute = self.absolute(path)
        with begun(self.directory(link, session, ""), session.real_path(absolute), session.stat(absolute)) as (
            finding,
            resolving,
            looking,
        ):
            root = await finding
            try:
                real = await resolving
            except SftpError as refusal:
                raise await self._meant(session, absolute, refusal) from None
            self._check_inside(path, real, root)
            try:
                return real, await looking
            except SftpError as refusal:
                found = await session.find(real)
                if found is None:
                    raise await self._meant(session, real, refusal) from None
                return real, found

    async def space(self, session: SftpSession) -> Space | None:
        """Return the space of the root's file system, or of the one that it will be made on."""
        path = self._root
        while path != b"/" and await session.find(path) is None:
            path = posixpath.dirname(path)
        space = await session.space(path)
        if space is None:
            self._lacks.learn(Ability.FREE_SPACE, "the server does not tell it")
        else:
            self._lacks.saw(Ability.FREE_SPACE)
        return space

    def absolute(self, path: str) -> bytes:
        """Return the absolute path of a path below the root; links are not followed."""
        return posixpath.join(self._root, encode(path)) if path else self._root

    def _check_inside(self, path: str, real: bytes, root: bytes) -> None:
        if real != root and not real.startswith(root.rstrip(b"/") + b"/"):
            raise self._refusals.outside(path)

    async def _resolve(self, session: SftpSession, absolute: bytes, path: str, root: bytes | None, make: bool) -> bytes:
        with begun(session.real_path(absolute), session.stat(absolute)) as (resolving, looking):
            try:
                real: bytes = await resolving
            except SftpError as refusal:
                if not make or absolute == b"/" or (refusal.code not in _NOT_THERE):
                    raise
                above, name = posixpath.split(absolute)
                real = posixpath.join(await self._resolve(session, above, path, root, make), name)
            if root is not None:
                self._check_inside(path, real, root)
            found = await self._directory(session, real, looking)
        if found is None:
            if not make:
                raise SftpError(messages.NO_SUCH_FILE, "No such directory")
            await self._make(session, real)
        elif not found:
            if not make:
                raise SftpError(messages.NO_SUCH_FILE, "Not a directory")
            raise self._refusals.file_in_the_way(path)
        return real

    async def _directory(self, session: SftpSession, real: bytes, looking: Awaitable[Attributes | None]) -> bool | None:
        """Tell whether a directory is there, None if nothing is, as far as the server reports it."""
        try:
            found = await looking
        except SftpError as refusal:
            if refusal.code not in _NOT_THERE:
                raise
            return await session.is_directory(real) or None
        if found is None:
            return None
        return found.directory if found.mode is not None else await session.is_directory(real)

    async def _meant(self, session: SftpSession, path: bytes, refusal: SftpError) -> SftpError:
        """Return a refusal, as NO_SUCH_FILE if the path leads through a file: some servers say FAILURE then."""
        above = None
        while refusal.code == messages.FAILURE and above is None and path != b"/":
            path = posixpath.dirname(path)
            above = await session.find(path)
        is_file = above is not None and above.regular
        return SftpError(messages.NO_SUCH_FILE, "Not a directory") if is_file else refusal

    async def _make(self, session: SftpSession, real: bytes, *, above: bool = True) -> None:
        """Make a directory, and those above it, since some servers return a real path for missing directories."""
        try:
            await session.make_directory(real, self._directory_mode)
        except SftpError as refusal:
            # Another transfer may have made it meanwhile.
            found = await session.find(real)
            if (found is not None and found.directory) or await session.is_directory(real):
                return
            if found is not None or refusal.code not in _NOT_THERE or not above or real == b"/":
                raise
            await self._make(session, posixpath.dirname(real))
            await self._make(session, real, above=False)
            return
        try:
            await session.set_by_path(real, Attributes(mode=self._directory_mode))
        except SftpError as refusal:
            self._lacks.learn(Ability.SET_MODE, f"the server refuses it: {refusal}")
        if not session.openssh and await session.find(real) is None and not await session.is_directory(real):
            raise self._refusals.vanished(decode(real))
