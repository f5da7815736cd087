"""One login on an FTP server: what is asked of files, one question after the other or several at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from datamover import errors
from datamover.bounds.servers import LARGEST_FTP_LISTING
from datamover.protocols.ftp.client.control import Control, checked
from datamover.protocols.ftp.client.data import Data, Receiving, Sending, connect
from datamover.protocols.ftp.client.listing import FtpEntry, Lines, fact_entry, line_entry, time_of
from datamover.protocols.ftp.client.moving import UNTOLD, Moving
from datamover.protocols.ftp.client.replies import (
    FtpRefusal,
    Reply,
    decode,
    encode,
    extended_port,
    passive_port,
    quoted_path,
)
from datamover.protocols.ftp.client.tls import SessionTLS
from datamover.protocols.listings import in_time
from datamover.protocols.slices import SlicedWork

T = TypeVar("T")

_MISSING = (
    *("no such file", "not exist", "not found", "cannot find", "not a directory"),
    "could not get file size",
    "check for file existence",
)
"""The last two are vsftpd's, of what is not there or is no file, and pure-ftpd's."""


@dataclass(frozen=True, slots=True)
class Features:
    """What a server announces (RFC 2389): names in capitals -> the rest of their lines."""

    names: dict[str, str]

    def __contains__(self, name: str) -> bool:
        return name in self.names


class FtpSession:
    """A control connection that is logged in, and what was learnt of its server."""

    def __init__(
        self,
        reactor: Any,
        control: Control,
        features: Features,
        home: str,
        *,
        resolves: bool,
        secure: SessionTLS | None,
        connect_timeout: float,
        idle_timeout: float,
    ) -> None:
        self._reactor = reactor
        self.control = control
        self.features = features
        self.home = home
        """The directory that the login began in."""
        self.resolves = resolves
        """Whether the server tells a directory's real path, links resolved."""
        self._secure = secure
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._extended = True
        self._sizes_directories: bool | None = None
        self.idle_since = 0.0

    # Questions over the control connection ------------------------------------------------------------------------

    def ask(self, verb: str, path: str | None = None) -> Deferred[Reply]:
        """Ask; fire with a positive reply, fail with FtpRefusal. Several may be asked before the first is answered."""
        shown = verb if path is None else f"{verb} {path}"
        return self.control.ask(verb, None if path is None else encode(path)).addCallback(checked, shown)

    async def enter(self, path: str) -> str:
        """Make a directory the working one; return the real path that the server tells of it. Raises FtpRefusal."""
        going, asking = self.ask("CWD", path), self.ask("PWD")
        try:
            await going
        except BaseException:
            asking.addErrback(lambda _: None)
            asking.cancel()
            raise
        try:
            return quoted_path(await asking) or path
        except FtpRefusal:
            return path

    async def size(self, path: str) -> int | None:
        """Return a file's bytes (RFC 3659, 4), None where no number is told (ftp-srv, of an empty file).

        Raises FtpRefusal, at most servers also for what is no file.
        """
        try:
            reply = await self.ask("SIZE", path)
        except FtpRefusal as refusal:
            told = await self.facts(path) if refusal.unsupported and "MLST" in self.features else None
            if told is None or told.size is None:
                raise
            return told.size
        text = reply.text.strip()
        return int(text) if text.isascii() and text.isdigit() else None

    async def sizes_directories(self, directory: str) -> bool:
        """Tell whether the server tells a size of a directory, too; it is asked once."""
        if self._sizes_directories is None:
            try:
                await self.ask("SIZE", directory)
            except FtpRefusal:
                self._sizes_directories = False
            else:
                self._sizes_directories = True
        return self._sizes_directories

    async def modified(self, path: str) -> float | None:
        """Return a file's time in POSIX seconds (RFC 3659, 3), None where it is not told."""
        try:
            return time_of((await self.ask("MDTM", path)).text)
        except FtpRefusal:
            return None

    async def facts(self, path: str) -> FtpEntry | None:
        """Return what MLST tells of a name (RFC 3659, 7). Raises FtpRefusal."""
        reply = await self.ask("MLST", path)
        for line in reply.lines[1:]:
            found = fact_entry(decode(line))
            if found is not None:
                return found
        return None

    async def status(self, path: str) -> tuple[bool, Sequence[FtpEntry]]:
        """Return the lines about a name, or those in a directory, without a data connection (RFC 959, STAT).

        Some servers tell which: then the first is whether it is a directory (code 212).
        """
        reply = await self.ask("STAT", path)
        return reply.code == 212, [
            entry for line in reply.lines if (entry := line_entry(decode(line).lstrip(" "))) is not None
        ]

    async def rename(self, old: str, new: str) -> None:
        """Rename; raises FtpRefusal."""
        asking, renaming = self.ask("RNFR", old), self.ask("RNTO", new)
        try:
            await asking
        except BaseException:
            renaming.addErrback(lambda _: None)
            renaming.cancel()
            raise
        await renaming

    # Transfers ----------------------------------------------------------------------------------------------------

    async def retrieve(self, path: str, offset: int = 0) -> Moving:
        """Have a file sent, from an offset. Raises FtpRefusal, and the data connection's errors."""
        return await self._move("RETR", path, Receiving, offset)

    async def store(self, path: str, offset: int = 0) -> Moving:
        """Send a file, from an offset on, which the server keeps what stands before. Raises as ``retrieve``."""
        return await self._move("STOR", path, Sending, offset)

    def slices(self) -> SlicedWork:
        """Return new slices for long work on what the server sent."""
        return SlicedWork(self._reactor)

    async def listing(self, parse: Callable[[str], T], verb: str, argument: str | None = None) -> list[T]:
        """Return the lines of a listing, each parsed. Raises FtpRefusal, ServerError and TimedOut for one without end.

        They are parsed in slices, as they come.
        """
        return await in_time(self._listing(parse, verb, argument), self._reactor)

    async def _listing(self, parse: Callable[[str], T], verb: str, argument: str | None) -> list[T]:
        moving = await self._move(verb, argument, Receiving, 0)
        lines, slices, size = Lines(parse), self.slices(), 0
        try:
            assert isinstance(moving.data, Receiving)
            while piece := await moving.data.read():
                size += len(piece)
                if size > LARGEST_FTP_LISTING:
                    raise errors.ServerError(f"the listing has more than {LARGEST_FTP_LISTING} bytes", retryable=False)
                await slices.run(lines.feed(piece))
            await moving.end()
            if moving.data.trouble is not None:
                raise errors.ConnectionLost(f"a listing is not whole: {moving.data.trouble}")
        finally:
            moving.close()
        return lines.finish()

    async def _move(self, verb: str, path: str | None, kind: type[Data], offset: int) -> Moving:
        data = kind(self._reactor, self._idle_timeout, self._secure is not None)
        port = await self._passive()
        creator = None if self._secure is None else self._secure.data()
        address = self.control.transport.getPeer().host
        moving = Moving(self._reactor, self.control, data, f"{verb} {path or ''}".rstrip())
        connecting = Deferred.fromCoroutine(connect(self._reactor, address, port, data, creator, self._connect_timeout))
        patience = min(UNTOLD, self._idle_timeout / 2)
        connecting.addCallbacks(lambda _: moving.reached(patience), moving.unreached)
        try:
            if offset:
                # Twisted's server answers nothing before it has the data connection.
                await self.ask("REST", str(offset))
            moving.follow(self.control.ask(verb, None if path is None else encode(path), began=moving.begin))
            await moving.began
            if moving.over:
                await moving.end()
            await connecting
            moving.check()
        except FtpRefusal:
            connecting.cancel()
            moving.close()
            raise
        except BaseException:
            connecting.cancel()
            moving.close()
            if self.control.failure is None and not moving.over:
                # The server waits for a connection that does not come: it answers nothing else meanwhile.
                self.control.fail(errors.ConnectionLost("a data connection was given up"))
            raise
        return moving

    async def _passive(self) -> int:
        """Return the port of the next data connection, on the control connection's address, whatever the reply says."""
        if self._extended:
            try:
                port = extended_port(await self.ask("EPSV"))
                if port is not None:
                    return port
            except FtpRefusal as refusal:
                if refusal.code in (421, 530):
                    raise
            self._extended = False
        try:
            reply = await self.ask("PASV")
        except FtpRefusal as refusal:
            if refusal.code < 500 or refusal.code == 530:
                raise
            raise errors.ServerError(
                f"the server makes no passive data connections, and datamover no others: {refusal}; have it allow PASV",
                retryable=False,
            ) from None
        port = passive_port(reply)
        if port is None:
            raise errors.ServerError(f"the server names no port for the data: {reply.words}")
        return port


def says_missing(refusal: FtpRefusal) -> bool:
    """Tell whether a server says in words that there is nothing: the code 550 is for that and for anything else."""
    return any(each in refusal.meaning for each in _MISSING)
