"""The SFTP channels of one connection: each user has its own while there are enough; beyond that they share."""

import struct
from collections.abc import Callable
from typing import Any, NoReturn

from twisted.conch.ssh.connection import SSHConnection
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from datamover import errors
from datamover.concurrency.waiters import Waiters
from datamover.errors import DataMoverError
from datamover.protocols.sftp.client.channel import SftpChannel
from datamover.protocols.sftp.client.session import SftpSession

CHANNELS = 8
"""Channels of one connection; servers allow ten (MaxSessions), and other programs may need some."""
IDLE = 60.0
"""Seconds without use after which a connection is closed, since a firewall may drop it silently."""


_ROOM = struct.Struct(">LL")


class Channels(SSHConnection):
    """conch's connection, which passes channel data on without copying it."""

    _log = Logger(observer=lambda event: None)  # type: ignore[arg-type]  # conch tells every step at "info"

    def __init__(self, started: Callable[[], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._started = started
        self._taking = False
        self._full = False
        self._held: dict[SftpChannel, None] = {}
        """The channels that wait to send, in their order."""

    def serviceStarted(self) -> None:  # noqa: N802 - conch's name
        transport: Any = self.transport
        transport.transport.registerProducer(self, True)
        self._started()

    def begin(self) -> None:
        """Hold back what channels send until ``end``, so that the answers to many messages fill few packets."""
        self._taking = True

    def end(self) -> None:
        self._taking = False
        self._go_on()

    def hold(self, channel: SftpChannel) -> bool:
        """Tell whether the channel must wait; if so, its ``pump`` is called later."""
        if self._taking or self._full:
            self._held[channel] = None
        return self._taking or self._full

    def pauseProducing(self) -> None:  # noqa: N802 - the transport's name
        """Encrypt nothing more until the socket has sent what is buffered."""
        self._full = True

    def resumeProducing(self) -> None:  # noqa: N802 - the transport's name
        self._full = False
        for channel in self._held:
            channel.drained()
        self._go_on()

    def stopProducing(self) -> None:  # noqa: N802 - the transport's name
        self._full = True

    def _go_on(self) -> None:
        while self._held and not self._taking and not self._full:
            channel = next(iter(self._held))
            del self._held[channel]
            channel.pump()

    def room(self, message: memoryview) -> None:
        """Give a CHANNEL_WINDOW_ADJUST message to its channel."""
        number, count = _ROOM.unpack(message[1:9])
        self.channels[number].addWindowBytes(count)

    def data(self, message: memoryview) -> None:
        """Give a CHANNEL_DATA message to its channel, and reopen the server's window in time."""
        channel = self.channels[int.from_bytes(message[1:5], "big")]
        length = int.from_bytes(message[5:9], "big")
        if length != len(message) - 9 or length > channel.localWindowLeft:
            channel.fail(errors.ServerError("the server sends more than its window allows"))
            return
        channel.localWindowLeft -= length
        if channel.localWindowLeft < channel.localWindowSize // 2:
            room = channel.localWindowSize - channel.localWindowLeft
            self.adjustWindow(channel, room)  # type: ignore[no-untyped-call]
        channel.dataReceived(message[9:])


class Leases:
    """The channels of a connection that is logged in, opened when they are first needed."""

    def __init__(self, reactor: Any, connection: Channels, open_timeout: float, idle_timeout: float) -> None:
        self._reactor = reactor
        self._connection = connection
        self._open_timeout = open_timeout
        self._idle_timeout = idle_timeout
        self._sessions: list[SftpSession] = []
        self._opening = 0
        self._opened: Waiters[DataMoverError | None] = Waiters()
        """Wait for one of the channels that are being opened to be open, or to have failed, with why.

        Not a DeferredLock: there each waiter wakes the next within its own call, too deep for hundreds of them.
        """
        self._limit = CHANNELS
        self._users = 0
        self._idle: Any = None
        self._stopped = False
        self.extensions: frozenset[bytes] | None = None
        """The server's SFTP extensions; None before a channel was opened."""
        self.openssh = False
        """Whether it is OpenSSH's own SFTP server."""

    def stop(self) -> None:
        """Stop the idle timer: the connection ends."""
        self._stopped = True
        self._keep_awake()

    async def take(self) -> SftpSession:
        """Return an unused channel or, when no more may be opened, the one with the fewest users."""
        self._users += 1
        self._keep_awake()
        try:
            return await self._take()
        except BaseException:
            self._left()
            raise

    async def take_spare(self) -> SftpSession | None:
        """Return an unused channel, None if all are used and no more may be opened."""
        self._users += 1
        self._keep_awake()
        session = None
        try:
            session = await self._unused()
        finally:
            if session is None:
                self._left()
        return session

    def prepare(self) -> None:
        """Begin to open all channels that are allowed, without waiting for them."""
        while self._room:
            opening = Deferred.fromCoroutine(self._open())
            opening.addCallbacks(_unused, lambda _: None)

    def release(self, session: SftpSession) -> None:
        """Release a channel that ``take`` or ``take_spare`` returned."""
        session.users -= 1
        self._left()

    def _left(self) -> None:
        self._users -= 1
        if not self._users and not self._stopped:
            self._idle = self._reactor.callLater(IDLE, self._close_idle)

    def _keep_awake(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None and idle.active():
            idle.cancel()

    def _close_idle(self) -> None:
        transport: Any = self._connection.transport
        if transport.failure is None:
            transport.failure = errors.ConnectionLost("it was closed because nothing used it")
            transport.leave()

    @property
    def _room(self) -> bool:
        # The first channel's answer tells how many the server bears.
        limit = 1 if self.extensions is None else self._limit
        return len(self._sessions) + self._opening < limit

    async def _take(self) -> SftpSession:
        session = await self._unused()
        if session is None:
            session = self._idlest()
            assert session is not None, "_unused opens a channel where there is none"
            session.users += 1
        return session

    async def _unused(self) -> SftpSession | None:
        """Return a channel for its first user, None if all are used and no more may be opened."""
        session = self._idlest()
        while session is None or session.users:
            if self._room:
                opened = await self._open()
                if opened is not None:
                    return opened
            elif self._opening:
                failure = await self._opened.wait()
                if failure is not None and self._idlest() is None and not self._opening:
                    raise failure.copy()
            else:
                return None
            session = self._idlest()
        session.users += 1
        return session

    def _idlest(self) -> SftpSession | None:
        self._sessions = [session for session in self._sessions if session.channel.failure is None]
        return min(self._sessions, key=lambda session: session.users, default=None)

    async def _open(self) -> SftpSession | None:
        """Open a channel for one user; None if the server does not open it and there are or will be others."""
        self._opening += 1
        failure: DataMoverError | None = None
        try:
            session = await self._opened_session()
        except (errors.ServerError, errors.TimedOut) as error:
            failure = error
            self._limit = max(len(self._sessions) + self._opening - 1, 1)
            if not self._sessions and self._opening == 1:
                raise
            return None
        else:
            session.users += 1
            self._sessions.append(session)
            self.extensions = frozenset(session.extensions)
            self.openssh = session.openssh
            if not self.openssh:
                # ProFTPD's process crashes when several channels write, whatever files they write.
                self._limit = 1
            return session
        finally:
            self._opening -= 1
            self._opened.wake(failure)

    async def _opened_session(self) -> SftpSession:
        transport: Any = self._connection.transport
        if self._stopped:
            raise errors.ConnectionLost("the connection broke")
        channel = SftpChannel(self._reactor, self._idle_timeout)
        channel.conn = self._connection
        session = SftpSession(channel)
        self._connection.openChannel(channel)  # type: ignore[no-untyped-call]
        heard = transport.received
        try:
            opening = Deferred.fromCoroutine(session.open())
            await opening.addTimeout(self._open_timeout, self._reactor, onTimeoutCancel=self._late)
        except errors.TimedOut as error:
            channel.fail(error)
            if transport.received == heard or self._idlest() is None:
                transport.fail(error)
            raise
        except BaseException:
            channel.fail(errors.ConnectionLost("the channel was given up while it was opened"))
            raise
        return session

    def _late(self, result: object, timeout: float) -> NoReturn:
        raise errors.TimedOut(f"the server opened no SFTP channel within {timeout:g} s")


def _unused(session: SftpSession | None) -> None:
    if session is not None:
        session.users -= 1
