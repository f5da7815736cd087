"""One file that is read from an FTP server, to an end that the server confirms."""

import posixpath

from datamover.errors import DataMoverError
from datamover.protocols.base import Ability, Inspection, Octets
from datamover.protocols.ftp.client.data import Receiving
from datamover.protocols.ftp.client.listing import FtpEntry
from datamover.protocols.ftp.client.moving import Moving
from datamover.protocols.ftp.client.replies import FtpRefusal
from datamover.protocols.ftp.client.session import FtpSession
from datamover.protocols.ftp.client.sessions import Sessions
from datamover.protocols.ftp.refusals import FtpRefusals, Missing
from datamover.protocols.ftp.tree import FtpTree
from datamover.protocols.lacks import Lacks


class FtpReader:
    """Inspects and opens the files below ``tree``."""

    def __init__(self, sessions: Sessions, tree: FtpTree, refusals: FtpRefusals, lacks: Lacks) -> None:
        self.sessions = sessions
        self.tree = tree
        self.refusals = refusals
        self.lacks = lacks

    async def look(self, path: str) -> Inspection | None:
        """Inspect one path; None if nothing is there."""
        async with self.sessions.lent() as session:
            try:
                _, found = await self.tree.target(session, path)
            except Missing:
                return None
        return None if found is None else inspection_of(path, found)

    async def open(self, path: str, offset: int, identity: str | None) -> "FtpSource":
        """Open a regular file for reading, from ``offset`` if it still has ``identity``."""
        with self.refusals.about(path):
            session = await self.sessions.take()
            try:
                real, found = await self.tree.target(session, path)
                entry = check_regular(path, found, self.refusals)
                source = FtpSource(self, session, path, real, entry)
                await source.begin(offset, identity)
            except BaseException:
                self.sessions.give(session)
                raise
            return source


class FtpOrigin:
    """``protocols.base.Origin`` of one name in a place on an FTP server."""

    def __init__(self, reader: FtpReader, path: str) -> None:
        self._reader = reader
        self._path = path

    async def inspect(self) -> Inspection:
        with self._reader.refusals.about(self._path):
            found = await self._reader.look(self._path)
            if found is None:
                raise Missing
            return found

    async def open(self, offset: int = 0, identity: str | None = None) -> "FtpSource":
        return await self._reader.open(self._path, offset, identity)


class FtpSource:
    """``protocols.base.Source`` of a file; holds a session and a data connection until it is closed."""

    def __init__(self, reader: FtpReader, session: FtpSession, path: str, real: str, entry: FtpEntry) -> None:
        self._reader = reader
        self._session: FtpSession | None = session
        self._path = path
        self._real = real
        self._entry = entry
        self._moving: Moving | None = None
        self._ended = False
        self.offset = 0
        self.inspection = inspection_of(path, entry)

    async def begin(self, offset: int, identity: str | None) -> None:
        """Request the bytes, from ``offset`` if the file still has ``identity`` and the server can begin there."""
        session = self._opened
        size = self._entry.size
        same = identity is not None and identity == self._entry.identity and size is not None and offset <= size
        if same and offset and Ability.RESUME not in self._reader.lacks:
            self.offset = offset
        self._position = self.offset
        if self.offset and self.offset == size:
            return  # Not every server sends nothing.
        try:
            self._moving = await session.retrieve(self._real, self.offset)
        except FtpRefusal as refusal:
            if not (self.offset and refusal.command.startswith("REST")):
                raise
            self._reader.lacks.learn(Ability.RESUME, f"the server refuses it: {refusal}")
            self.offset = self._position = 0
            self._moving = await session.retrieve(self._real)

    async def read(self) -> Octets:
        """Return the next bytes, b"" at the end. Raises SourceChanged if the file has changed since it was opened."""
        with self._reader.refusals.about(self._path):
            data = b""
            if self._moving is not None and not self._ended:
                received = self._moving.data
                assert isinstance(received, Receiving)
                data = await received.read()
                self._position += len(data)
                size = self._entry.size
                if size is not None and self._position > size:
                    raise self._beyond()
            if not data and not self._ended:
                await self._check_end()
                self._ended = True
            return data

    async def close(self) -> None:
        """Close the file, without waiting for the server's answer, on which nothing depends."""
        session, self._session = self._session, None
        if session is None:
            return
        if self._moving is not None:
            self._moving.close()
        self._reader.sessions.give(session)

    @property
    def _opened(self) -> FtpSession:
        assert self._session is not None, "the source is closed"
        return self._session

    async def _check_end(self) -> None:
        """Raise unless the server confirms the end, all announced bytes came, and the file is unchanged."""
        refusals, size = self._reader.refusals, self._entry.size
        refused: FtpRefusal | None = None
        if self._moving is not None:
            try:
                await self._moving.end()
            except FtpRefusal as refusal:
                refused = refusal
            trouble = self._moving.data.trouble
            if trouble is not None and size is None:
                raise refusals.unsure(self._path, self._position, trouble)
        now = await self._reader.tree.find(self._opened, self._real, self._path)
        if now is None or now.identity != self._entry.identity or now.size != size:
            raise refusals.changed(self._path)
        if refused is not None and self._position == self.offset:
            raise refused  # It says why nothing came.
        if refused is not None:
            raise refusals.broken_off(self._path, self._position, refused)
        if size is not None and self._position != size:
            raise refusals.ended(self._path, size, self._position)

    def _beyond(self) -> DataMoverError:
        """Return the error for too many bytes: the file grew, or the server did not begin at the offset."""
        if self.offset:
            why = "the server sends the file from its beginning, whatever REST says"
            self._reader.lacks.learn(Ability.RESUME, why)
        return self._reader.refusals.changed(self._path)


def inspection_of(path: str, found: FtpEntry) -> Inspection:
    name = posixpath.basename(path.rstrip("/"))
    if found.kind != "file":
        directory = found.kind == "dir"
        return Inspection(name, modified=found.modified, directory=directory, special=not directory)
    return Inspection(name, found.size, found.identity, found.modified)


def check_regular(path: str, found: FtpEntry | None, refusals: FtpRefusals) -> FtpEntry:
    """Return ``found``; raises Missing if it is None, and an error of the side if it is no regular file."""
    if found is None:
        raise Missing
    if found.kind == "dir":
        raise refusals.directory(path)
    if found.kind != "file":
        raise refusals.special(path)
    return found
