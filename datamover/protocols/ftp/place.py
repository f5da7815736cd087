"""A directory on an FTP server as a destination."""

import posixpath
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from datamover.concurrency.shielding import finish_despite_cancel
from datamover.errors import DataMoverError, Scope
from datamover.protocols.base import Ability, Inspection
from datamover.protocols.ftp import aside
from datamover.protocols.ftp.client.data import Sending
from datamover.protocols.ftp.client.moving import Moving
from datamover.protocols.ftp.client.replies import FtpRefusal
from datamover.protocols.ftp.client.session import FtpSession
from datamover.protocols.ftp.client.sessions import Sessions
from datamover.protocols.ftp.measure import measure_sent, stored
from datamover.protocols.ftp.metadata import FtpMetadata
from datamover.protocols.ftp.names import OddNames
from datamover.protocols.ftp.placing import FtpPlacement
from datamover.protocols.ftp.refusals import FtpRefusals, Missing
from datamover.protocols.ftp.sink import FtpSink, write_on
from datamover.protocols.ftp.source import FtpOrigin, FtpReader, check_regular
from datamover.protocols.ftp.tree import FtpTree
from datamover.protocols.lacks import Lacks
from datamover.protocols.part_files import PartFilePlace
from datamover.protocols.part_files.names import PREFIX, SUFFIX
from datamover.protocols.part_files.seam import ProvePath
from datamover.protocols.place import PlaceSettings
from datamover.protocols.slices import converted, in_order
from datamover.protocols.upload import Check, Stored


class FtpPlace(PartFilePlace):
    """``protocols.place.Place`` of a directory on a server; each call borrows one of ``sessions``."""

    def __init__(
        self,
        root: str,
        user: str,
        settings: PlaceSettings,
        side: Scope,
        sessions: Sessions,
        reactor: Any,
        lacks: Lacks,
        directories: dict[str, tuple[float, str]],
        kept: set[str],
    ) -> None:
        self.lacks = lacks
        self._refusals = FtpRefusals(settings.name, side, user)
        self._tree = FtpTree(reactor, root, settings.directory_mode, self._refusals, lacks, directories)
        self._names = OddNames(self._tree, self._refusals, kept)
        self._reader = FtpReader(sessions, self._tree, self._refusals, lacks)
        self._sessions = sessions
        self._clock = reactor
        self._file_mode = settings.file_mode

    async def connect(self) -> None:
        """Complete when there is a connection that is logged in."""
        with self._refusals.about(""):
            async with self._sessions.lent():
                pass

    async def inspect(self, path: str) -> Inspection | None:
        """Inspect one path, following links; None if nothing is there."""
        with self._refusals.about(path):
            return await self._reader.look(path)

    def origin(self, path: str) -> FtpOrigin:
        return FtpOrigin(self._reader, path)

    async def open_part(self, part: str, target: str, *, offset: int = 0) -> FtpSink:
        """Open a part file: STOR begins it anew, and REST before STOR continues it."""
        with self._refusals.about(target):
            session = await self._sessions.take()
            try:
                await self._names.check(session, target, part)
                real = await self._tree.name(session, part, make=not offset)
                moving = await (
                    self._resumed(session, real, target, offset) if offset else self._sent(session, real, part)
                )
            except BaseException:
                self._sessions.give(session)
                raise
            return FtpSink(
                self._clock,
                self._sessions,
                session,
                moving,
                real,
                offset,
                path=target,
                metadata=self._metadata,
                tree=self._tree,
                refusals=self._refusals,
                lacks=self.lacks,
            )

    async def place_part(
        self, part: str, target: str, *, size: int, replace: bool, prove: ProvePath | None = None
    ) -> Stored:
        """Place a part file by RNFR and RNTO; a symbolic link there is replaced.

        FTP has no exclusive rename, so without ``replace`` the target is looked up before. On a server that cannot
        rename onto a file, the old one is set aside first; after an interruption the next call, or ``remove`` of the
        part file, restores it.
        """
        with self._refusals.about(target):
            async with self._sessions.lent() as session:
                name = await self._tree.name(session, target, make=True)
                with self._refusals.about(part):
                    old = await self._tree.name(session, part)
                    check_regular(part, await self._tree.find(session, old), self._refusals)
                placing = self._placing(session, old, name, target, size, replace)
                await placing.look()
            # Reading needs a login of its own, and the server may allow only one.
            if prove is not None and placing.replaces:
                await prove(part)
            async with self._sessions.lent() as placing.session:
                await placing.take_name()
                if prove is None:
                    await placing.settle()
            if prove is not None:
                await self._proven(placing, target, prove)
            return Stored(size, without=placing.without)

    async def put_part(
        self, part: str, target: str, data: bytes, *, modified: float | None, replace: bool, commit: Check
    ) -> Stored:
        """Write and place a small file over one session."""
        with self._refusals.about(target):
            async with self._sessions.lent() as session:
                metadata = self._metadata(modified)
                putting = Deferred.fromCoroutine(self._put(session, part, target, data, replace, metadata))
                placing = await finish_despite_cancel(putting)
                commit()
                await finish_despite_cancel(Deferred.fromCoroutine(placing.take_name()))
                await placing.settle()
                return Stored(len(data), without=[*metadata.without, *placing.without])

    async def remove(self, path: str) -> None:
        """Remove a file, or a symbolic link itself; do nothing if it is missing.

        If an old file was set aside for it, a part file, that gets its name back.
        """
        with self._refusals.about(path):
            async with self._sessions.lent() as session:
                try:
                    real = await self._tree.name(session, path)
                except Missing:
                    return
                name = posixpath.basename(real)
                if name.startswith(PREFIX) and name.endswith(aside.ASIDE):
                    await aside.put_back(self._tree, session, real)
                    return
                if name.startswith(PREFIX) and name.endswith(SUFFIX):
                    await aside.put_back(self._tree, session, real + aside.ASIDE)
                found = None
                with suppress(FtpRefusal):  # Not everybody who may remove files may look at them.
                    found = await self._tree.find(session, real, path)
                # Some servers (copyparty's) would remove a directory with all that is in it.
                if found is not None and found.kind == "dir":
                    raise self._refusals.directory(path)
                try:
                    await session.ask("DELE", real)
                except FtpRefusal:
                    if await self._tree.find(session, real, path) is not None:
                        raise

    async def list(self, path: str) -> list[str]:
        """Return the names in a directory, sorted; bytes that are not UTF-8 become lone surrogates."""
        with self._refusals.about(path):
            async with self._sessions.lent() as session:
                slices = session.slices()
                try:
                    found = await self._tree.entries(session, await self._tree.directory(session, path.strip("/")))
                except Missing:
                    return []
            names = await slices.run(converted(found, lambda entry: entry.name))
            return await slices.run(in_order({name for name in names if name not in (".", "..") and "/" not in name}))

    async def free(self) -> int | None:
        """Return how many bytes may still be written, None if the server does not report it."""
        with self._refusals.about(""):
            async with self._sessions.lent() as session:
                return await self._tree.free(session)

    # ------------------------------------------------------------------------------------------------------------

    async def _proven(self, placing: FtpPlacement, target: str, prove: ProvePath) -> None:
        """Call ``prove`` with a target, then remove the old file; a wrong target is removed."""
        try:
            await prove(target)
        except DataMoverError as error:
            async with self._sessions.lent() as placing.session:
                raise await placing.undone(error) from None
        async with self._sessions.lent() as placing.session:
            await placing.settle()

    def _metadata(self, modified: float | None) -> FtpMetadata:
        return FtpMetadata(self._file_mode, modified, self.lacks)

    def _not_again(self, target: str, why: str) -> DataMoverError:
        self.lacks.learn(Ability.RESUME, why)
        return self._refusals.not_again(target, why)

    async def _sent(self, session: FtpSession, real: str, path: str) -> Moving:
        """Begin to send a file from its beginning; raises the reason for a refusal, as far as it can be found out."""
        try:
            return await session.store(real)
        except FtpRefusal as refusal:
            if refusal.code in (550, 553) and not self._refusals.too_long(path):
                self._tree.forget()
                parent = await self._tree.directory(session, posixpath.dirname(path), make=True)
                again = posixpath.join(parent, posixpath.basename(path))
                found = await self._tree.find(session, again, path)
                if found is not None and found.kind == "dir":
                    raise self._refusals.directory(path) from None
                if again == real and found is not None:
                    # An earlier attempt's part file: some servers do not overwrite files.
                    await session.ask("DELE", real)
                return await session.store(again)
            raise

    async def _resumed(self, session: FtpSession, real: str, target: str, offset: int) -> Moving:
        """Begin to continue a part file, if it is long enough."""
        found = await self._tree.find(session, real)
        if found is None or found.size is None or found.size < offset:
            raise self._refusals.short(target, (found.size if found else None) or 0, offset)
        moving = await write_on(session, real, offset, partial(self._not_again, target))
        try:
            await self._check_kept(real, target, offset)
        except BaseException:
            moving.close()
            raise
        return moving

    async def _check_kept(self, real: str, target: str, offset: int) -> None:
        """Check that the server continues the file at the offset and has not emptied it instead."""
        side = await self._sessions.side()
        if side is None:
            return
        with suppress(FtpRefusal):
            held = await side.size(real)
            if held is not None and held < offset:
                raise self._not_again(target, f"the server keeps {held} bytes of {offset}")

    async def _put(
        self, session: FtpSession, part: str, target: str, data: bytes, replace: bool, metadata: FtpMetadata
    ) -> FtpPlacement:
        await self._names.check(session, target, part)
        real = await self._tree.name(session, part, make=True)
        name = posixpath.join(posixpath.dirname(real), posixpath.basename(target))
        placing = self._placing(session, real, name, target, len(data), replace)
        moving = await self._sent(session, real, part)
        try:
            sending = moving.data
            assert isinstance(sending, Sending)
            await sending.write(data)
            await sending.finish()
            await stored(moving, real, len(data), target, self._sessions, self._tree, self._refusals)
        finally:
            moving.close()
        await metadata.set(session, real)
        found, held = await measure_sent(self._clock, self._tree, session, real, len(data))
        if found is None or found.kind != "file":
            raise self._refusals.lost(target)
        metadata.check(found)
        if held != len(data):
            raise self._refusals.other_size(target, "in its part file", held, len(data))
        try:
            await placing.look()
        except DataMoverError:
            with suppress(FtpRefusal):
                await session.ask("DELE", real)
            raise
        return placing

    def _placing(
        self, session: FtpSession, part: str, name: str, target: str, size: int, replace: bool
    ) -> FtpPlacement:
        return FtpPlacement(
            session,
            part,
            name,
            target=target,
            size=size,
            replace=replace,
            tree=self._tree,
            refusals=self._refusals,
            lacks=self.lacks,
        )
