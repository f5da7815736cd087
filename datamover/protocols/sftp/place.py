"""A directory on an SSH server as a destination."""

import posixpath
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from datamover.concurrency.shielding import finish_despite_cancel
from datamover.errors import DataMoverError, DestinationExists, Scope
from datamover.protocols.base import Inspection
from datamover.protocols.lacks import Lacks
from datamover.protocols.part_files import PartFilePlace
from datamover.protocols.part_files.seam import ProvePath
from datamover.protocols.place import PlaceSettings
from datamover.protocols.sftp import aside
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.link import Link
from datamover.protocols.sftp.client.messages import SftpError, decode, encode
from datamover.protocols.sftp.client.session import SftpSession, Space
from datamover.protocols.sftp.client.write_channels import WriteChannel
from datamover.protocols.sftp.metadata import SftpMetadata
from datamover.protocols.sftp.orders import Order, Orders
from datamover.protocols.sftp.parts import SftpParts
from datamover.protocols.sftp.placing import SftpPlacement
from datamover.protocols.sftp.put import write_whole
from datamover.protocols.sftp.reader import SftpOrigin, SftpReader, check_regular
from datamover.protocols.sftp.refusals import ServerRefusals
from datamover.protocols.sftp.sink import SftpSink
from datamover.protocols.sftp.tree import SftpTree
from datamover.protocols.slices import SlicedWork, converted, in_order
from datamover.protocols.upload import Check, Stored

T = TypeVar("T")


class SftpPlace(PartFilePlace):
    """``protocols.place.Place`` of a directory on a server; ``link`` returns the connection to it.

    Cancelling a call discards the answer; the server still does what it was asked, and a file that it opened is closed.
    """

    def __init__(
        self,
        root: str,
        user: str,
        settings: PlaceSettings,
        side: Scope,
        link: Callable[[], Awaitable[Link]],
        reactor: Any,
        lacks: Lacks,
        orders: Orders,
    ) -> None:
        self.lacks = lacks
        self._refusals = ServerRefusals(settings.name, side, user)
        self._tree = SftpTree(reactor, root, settings.directory_mode, self._refusals, lacks)
        self._parts = SftpParts(self._tree, settings.file_mode, self._refusals, lacks)
        self._reader = SftpReader(self._tree, link, self._refusals)
        self._orders = orders
        self._file_mode = settings.file_mode
        self._link = link
        self._reactor = reactor

    async def connect(self) -> None:
        """Complete when there is a connection with SFTP."""
        with self._refusals.about(""):
            async with (await self._link()).lease():
                pass

    async def inspect(self, path: str) -> Inspection | None:
        """Inspect one path, following links; None if nothing is there."""
        with self._refusals.about(path):
            try:
                return await self._reader.look(path)
            except SftpError as refusal:
                if refusal.code == messages.NO_SUCH_FILE or await self._is_nothing(path, refusal):
                    return None
                raise

    async def _is_nothing(self, path: str, refusal: SftpError) -> bool:
        """Tell whether a refusal means that nothing is there: not all servers answer NO_SUCH_FILE."""
        if refusal.code == messages.PERMISSION_DENIED:
            return False
        link = await self._link()
        async with link.lease() as session:
            try:
                name = await self._tree.name(link, session, path)
            except SftpError:  # Its directory may not be there either.
                name = self._tree.absolute(path)
            return await session.find(name) is None

    def origin(self, path: str) -> SftpOrigin:
        return SftpOrigin(self._reader, path)

    async def open_part(self, part: str, target: str, *, offset: int = 0) -> SftpSink:
        """Open a part file; bytes of an earlier attempt stay until they are overwritten, or cut off by ``finish``."""
        with self._refusals.about(target):
            lease = (await self._link()).lease()
            session = await lease.take()
            order = self._orders.first(session, part)
            if order is Order.WIDE:
                lease.prepare()
            try:
                opened = await _unless_stale(
                    lease.link, lambda: self._parts.open(lease.link, session, part, target, offset)
                )
            except BaseException:
                lease.release()
                raise
            return SftpSink(
                WriteChannel(lease, session, opened.handle),
                opened.real,
                offset,
                mode=self._file_mode,
                order=order,
                longer=opened.found is not None,
                path=target,
                refusals=self._refusals,
                lacks=self.lacks,
                failed=partial(self._orders.failed, part, order),
            )

    async def place_part(
        self, part: str, target: str, *, size: int, replace: bool, prove: ProvePath | None = None
    ) -> Stored:
        """Place a part file; a symbolic link there is replaced, unless it leads to a directory.

        Without ``replace`` the name is given by a rename or a hard link, which fail if it exists
        (draft-ietf-secsh-filexfer-02, section 6.5). On a server without posix-rename@openssh.com nothing has the name
        for a moment (``aside``); after an interruption the next call, or ``remove`` of the part file, restores the old
        file.
        """
        with self._refusals.about(target):
            link = await self._link()
            async with link.lease() as session:
                placing = await _unless_stale(link, lambda: self._begin(link, session, part, target, size, replace))
                if not await placing.keep() and prove is not None:
                    await prove(part)
                await placing.take_name()
                if prove is not None:
                    try:
                        await prove(target)
                    except DataMoverError as error:
                        raise await placing.undone(error) from None
                await placing.settle()
                await session.sync_directory(posixpath.dirname(placing.name))
                return Stored(size, without=placing.without)

    async def put_part(
        self, part: str, target: str, data: bytes, *, modified: float | None, replace: bool, commit: Check
    ) -> Stored:
        """Write and place a small file; requests that do not depend on each other's answers are sent together."""
        with self._refusals.about(target):
            link = await self._link()
            async with link.lease() as session:
                metadata = SftpMetadata(self._file_mode, modified, self.lacks)
                putting = Deferred.fromCoroutine(
                    _unless_stale(link, lambda: write_whole(self._parts, link, session, part, target, data, metadata))
                )
                real, without = await finish_despite_cancel(putting)
                commit()
                directory = posixpath.dirname(real)
                name = posixpath.join(directory, encode(posixpath.basename(target)))
                placing = self._placing(session, real, name, target, len(data), replace, metadata)
                try:
                    await placing.keep()
                    await placing.take_name()
                except DestinationExists:
                    await _unless_refused(session.remove(real))
                    raise
                settling = None if placing.settled else Deferred.fromCoroutine(placing.settle())
                try:
                    await link.synced(session, directory)
                finally:
                    if settling is not None:
                        await settling
                return Stored(len(data), without=[*without, *metadata.without, *placing.without])

    async def remove(self, path: str) -> None:
        """Remove a file, or a symbolic link itself; do nothing if it is missing.

        If an old file was set aside for it, a part file, that gets its name back.
        """
        with self._refusals.about(path):
            link = await self._link()
            async with link.lease() as session:
                real = None
                try:
                    real = await self._tree.name(link, session, path)
                    if real.endswith(aside.ASIDE):
                        await aside.put_back(session, real)
                        return
                    if not session.can(messages.POSIX_RENAME):
                        await aside.put_back(session, real + aside.ASIDE)
                    await session.remove_file(real)
                except SftpError as refusal:
                    found = None if real is None else await session.find(real)
                    nothing = real is not None and found is None and refusal.code != messages.PERMISSION_DENIED
                    if refusal.code == messages.NO_SUCH_FILE or nothing:
                        return
                    if found is not None and found.directory:
                        raise self._refusals.directory(path) from None
                    raise

    async def list(self, path: str) -> list[str]:
        """Return the names in a directory, sorted; bytes that are not UTF-8 become lone surrogates."""
        with self._refusals.about(path):
            link = await self._link()
            async with link.lease() as session:
                try:
                    found = await session.names(await self._tree.directory(link, session, path.rstrip("/")))
                except SftpError as refusal:
                    if refusal.code == messages.NO_SUCH_FILE:
                        return []
                    raise
            slices = SlicedWork(self._reactor)
            names = await slices.run(converted(found, decode))
            return await slices.run(in_order(name for name in names if name not in (".", "..") and "/" not in name))

    async def free(self) -> int | None:
        """Return how many bytes the server's file system has left, None if it does not report it."""
        space = await self._space()
        return None if space is None else space.left

    async def volume(self) -> str | None:
        """Return the number of the root's file system, None if the server does not report it."""
        space = await self._space()
        return str(space.file_system) if space is not None and space.file_system else None

    async def _space(self) -> Space | None:
        with self._refusals.about(""):
            async with (await self._link()).lease() as session:
                return await self._tree.space(session)

    async def _begin(
        self, link: Link, session: SftpSession, part: str, target: str, size: int, replace: bool
    ) -> SftpPlacement:
        new = await self._tree.name(link, session, target, make=True)
        with self._refusals.about(part):
            old = await self._tree.name(link, session, part)
            check_regular(part, await session.find(old), self._refusals)
        return self._placing(session, old, new, target, size, replace, None)

    def _placing(
        self,
        session: SftpSession,
        part: bytes,
        name: bytes,
        target: str,
        size: int,
        replace: bool,
        metadata: SftpMetadata | None,
    ) -> SftpPlacement:
        return SftpPlacement(
            session,
            part,
            name,
            target=target,
            size=size,
            replace=replace,
            measure=lambda: self._reader.measure(target),
            refusals=self._refusals,
            lacks=self.lacks,
            metadata=metadata,
        )


async def _unless_stale(link: Link, call: Callable[[], Awaitable[T]]) -> T:
    """Call; if a file was missing, forget the directories that were verified and call once more."""
    remembered = bool(link.directories)  # Before the call, during which another may clear them.
    try:
        return await call()
    except SftpError as refusal:
        if refusal.code != messages.NO_SUCH_FILE or not remembered:
            raise
    link.directories.clear()
    return await call()


async def _unless_refused(call: Awaitable[object]) -> None:
    try:
        await call
    except SftpError:
        return
