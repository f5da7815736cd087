"""One part file that is written on an FTP server, over a data connection that is ended so that no byte is lost."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import DeferredLock
from twisted.internet.task import deferLater

from datamover.errors import ConnectionLost, DataMoverError
from datamover.protocols.base import Ability, Lack, Octets
from datamover.protocols.ftp.client.data import Sending
from datamover.protocols.ftp.client.moving import Moving
from datamover.protocols.ftp.client.replies import FtpRefusal
from datamover.protocols.ftp.client.session import FtpSession
from datamover.protocols.ftp.client.sessions import Sessions
from datamover.protocols.ftp.measure import PAUSES, SETTLED, measure_sent, stored
from datamover.protocols.ftp.metadata import FtpMetadata
from datamover.protocols.ftp.refusals import FtpRefusals, stops_any
from datamover.protocols.ftp.tree import FtpTree
from datamover.protocols.lacks import Lacks


class FtpSink:
    """``part_files.seam.PartFileSink`` of a part file; holds a session and a data connection until it is closed."""

    watched = True

    def __init__(
        self,
        clock: Any,
        sessions: Sessions,
        session: FtpSession,
        moving: Moving,
        real: str,
        offset: int,
        *,
        path: str,
        metadata: Callable[[float | None], FtpMetadata],
        tree: FtpTree,
        refusals: FtpRefusals,
        lacks: Lacks,
    ) -> None:
        """Write from ``offset`` on over ``moving``; ``metadata`` makes the Metadata for a modification time."""
        self._clock = clock
        self._sessions = sessions
        self._session: FtpSession | None = session
        self._moving = moving
        self._real = real
        self._start = self._taken = self._saved = offset
        self._path = path
        self._metadata = metadata
        self._tree = tree
        self._refusals = refusals
        self._lacks = lacks
        self._flushing = DeferredLock()
        self._writing = DeferredLock()
        self._finished = False
        self._written_on = bool(offset)
        self.without: list[Lack] = []
        """What could not be done for the file; complete after ``finish``."""

    async def write(self, data: Octets) -> None:
        """Take the next bytes; waits while too many are in flight. Raises the server's refusal."""
        with self._refusals.about(self._path):
            await self._writing.acquire()
            try:
                self._taken += len(data)
                await self._sending.write(data)
                if self._sending.ended:
                    await self._broken()
            finally:
                self._writing.release()

    async def flush(self) -> int:
        """Wait until the server's file has all bytes taken so far; return how many it is known to have.

        The server is asked for the file's size over another login. If the size stays too small (the server buffers, or
        reports a size only after closing), the transfer is ended and continued by another, if the server can do that.
        """
        with self._refusals.about(self._path):
            wanted = self._taken
            await self._flushing.acquire()
            try:
                if self._saved < wanted:
                    self._saved = max(self._saved, min(await self._grown(wanted), self._taken))
                if self._saved < wanted and Ability.RESUME not in self._lacks:
                    await self._begin_again()
            finally:
                self._flushing.release()
            return wanted if self._saved >= wanted else self._saved

    async def finish(self, *, modified: float | None) -> int:
        """End the transfer, wait until the server reports that it has all, set mode and time; return the size."""
        with self._refusals.about(self._path):
            session = self._opened
            await self._end()
            self._finished = True
            metadata = self._metadata(modified)
            await metadata.set(session, self._real)
            found, held = await measure_sent(self._clock, self._tree, session, self._real, self._taken)
            if found is None or found.kind != "file":
                raise self._refusals.lost(self._path)
            metadata.check(found)
            self.without += metadata.without
            if held != self._taken and self._written_on:
                raise self._unresumable(f"the server holds {held} bytes then, of {self._taken}")
            return held

    @property
    def doubtful(self) -> bool:
        """Whether it was continued: only reading shows that the server kept the bytes before the offset."""
        return self._written_on

    async def close(self) -> None:
        """Close the part file; completes when the server has ended the transfer, or the connection is lost."""
        session, self._session = self._session, None
        if session is None:
            return
        begun = self._sending.ready.called
        self._moving.close()
        if not begun:
            # Cut off in the handshake of TLS, pyftpdlib answers nothing any more.
            session.control.fail(ConnectionLost("a data connection was given up"))
        try:
            await self._moving.end()
        except (FtpRefusal, DataMoverError):
            pass  # Nothing depends on it any more.
        finally:
            self._sessions.give(session)

    # ------------------------------------------------------------------------------------------------------------

    @property
    def _opened(self) -> FtpSession:
        assert self._session is not None, "the sink is closed"
        return self._session

    @property
    def _sending(self) -> Sending:
        data = self._moving.data
        assert isinstance(data, Sending)
        return data

    async def _end(self) -> None:
        """End the data connection in order, and wait for the server's final reply."""
        await self._sending.finish()
        await self._told()
        self._moving.close()

    async def _told(self) -> None:
        """Wait for the server's final reply; some servers refuse to continue a file only there."""
        try:
            await stored(self._moving, self._real, self._taken, self._path, self._sessions, self._tree, self._refusals)
        except FtpRefusal as refusal:
            if self._written_on and not stops_any(refusal):
                raise self._unresumable(f"the server refuses it: {refusal}") from refusal
            raise

    async def _broken(self) -> None:
        """Raise the reason why the data connection ended before all was sent."""
        await self._told()
        raise self._refusals.broke(self._path, self._taken)

    async def _grown(self, wanted: int) -> int:
        """Wait until the file has ``wanted`` bytes, or does not grow any more; return how many it has then."""
        size, since, pause = -1, self._clock.seconds(), PAUSES[0]
        while True:
            side = await self._sessions.side()
            if side is None:
                return self._saved
            try:
                told = await side.size(self._real)
            except FtpRefusal:
                return self._saved
            if told is None:
                return self._saved
            if told >= wanted:
                return told
            if self._sending.ended:
                await self._broken()
            now = self._clock.seconds()
            if told > size:
                size, since = told, now
            elif now - since > SETTLED:
                return size
            await deferLater(self._clock, pause)
            pause = min(pause * 2, PAUSES[1])

    async def _begin_again(self) -> None:
        """End the transfer, so that the server's file has all of it, and begin another that continues it."""
        await self._writing.acquire()
        try:
            await self._end()
            offset = self._taken
            self._moving = await write_on(self._opened, self._real, offset, self._unresumable)
            self._written_on, self._saved = True, offset
        finally:
            self._writing.release()

    def _unresumable(self, why: str) -> DataMoverError:
        self._lacks.learn(Ability.RESUME, why)
        return self._refusals.not_again(self._path, why)


async def write_on(session: FtpSession, real: str, offset: int, refused: Callable[[str], DataMoverError]) -> Moving:
    """Begin a transfer that continues a file; a refusal is raised as the error that ``refused`` returns."""
    try:
        return await session.store(real, offset)
    except FtpRefusal as refusal:
        if stops_any(refusal):
            raise
        raise refused(f"the server refuses it: {refusal}") from refusal
