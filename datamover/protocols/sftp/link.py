"""One SSH connection to a file server: made and logged in within a time, carrying a few SFTP channels."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from twisted.conch.ssh.connection import SSHConnection
from twisted.internet import error as failures
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from datamover import errors
from datamover.errors import DataMoverError
from datamover.protocols.sftp.channel import SftpChannel, again
from datamover.protocols.sftp.known_hosts import KnownHosts, Verdict, entry_name, fingerprint, key_kind
from datamover.protocols.sftp.login import Credentials, Login, SecretFiles
from datamover.protocols.sftp.session import Session
from datamover.protocols.sftp.transport import Transport, host_key_algorithms
from datamover.protocols.sftp.wire import words

CHANNELS = 6
"""Of one connection; servers allow ten (MaxSessions) and others may want some."""
PATIENCE = 2.0
"""Seconds for a good-bye to be sent."""
IDLE = 60.0
"""Seconds without use after which a connection is closed: a firewall may forget it, and tell nobody."""

log = Logger()


@dataclass(frozen=True, slots=True)
class Server:
    """Where to log in, as whom, with what, and how long to wait, in seconds."""

    host: str
    port: int
    user: str
    files: SecretFiles = field(repr=False)
    connect_timeout: float
    idle_timeout: float

    @property
    def shown(self) -> str:
        return entry_name(self.host, self.port)


class _Channels(SSHConnection):
    """conch's connection, with the data of channels taken as it is."""

    _log = Logger(observer=lambda event: None)  # type: ignore[arg-type]  # conch tells every step at "info"

    def __init__(self, started: Callable[[], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._started = started

    def serviceStarted(self) -> None:  # noqa: N802 - conch's name
        self._started()

    def data(self, message: memoryview) -> None:
        """Give a CHANNEL_DATA message to its channel, and let the server send as much again in time."""
        channel = self.channels[int.from_bytes(message[1:5], "big")]
        length = int.from_bytes(message[5:9], "big")
        if length != len(message) - 9 or length > channel.localWindowLeft:
            channel.fail(errors.ServerError("the server sends more than it may"))
            return
        channel.localWindowLeft -= length
        if channel.localWindowLeft < channel.localWindowSize // 2:
            room = channel.localWindowSize - channel.localWindowLeft
            self.adjustWindow(channel, room)  # type: ignore[no-untyped-call]
        channel.dataReceived(message[9:])


class Link:
    """A connection, logged in once ``open`` has completed, ``usable`` until it is lost."""

    def __init__(self, reactor: Any, server: Server) -> None:
        self._reactor = reactor
        self._server = server
        self._transport: Transport | None = None
        self._credentials = Credentials()
        self._channels = _Channels(self._logged_in)
        self._ready: Deferred[None] = Deferred()
        self._ended = False
        self._farewells: list[Deferred[None]] = []
        self._sessions: list[Session] = []
        self._opening = DeferredLock()
        self._users = 0
        self._idle: Any = None
        self._limit = CHANNELS
        self.directories: dict[str, tuple[float, bytes]] = {}
        """Directories below the root that were found to lie there: when, and their real path."""

    @property
    def usable(self) -> bool:
        """Tell whether it is logged in and not lost."""
        transport = self._transport
        return transport is not None and transport.logged_in and transport.failure is None

    @property
    def gone(self) -> bool:
        """Tell whether there is no socket, any more or yet."""
        return self._ended or self._transport is None or self._transport.transport is None

    # Its beginning and its end -------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and log in, within the server's connect_timeout. Cancelling drops the connection.

        Raises TimedOut, ConnectFailed, HostKeyMismatch, AuthenticationFailed, ConnectionLost.
        """
        attempt = Deferred.fromCoroutine(self._open())
        try:
            await attempt.addTimeout(self._server.connect_timeout, self._reactor, onTimeoutCancel=self._late)
        except BaseException:
            if self._transport is not None and self._transport.transport is not None:
                self._transport.fail(errors.ConnectionLost("the connection was given up while it was made"))
            raise

    async def _open(self) -> None:
        server = self._server
        pool = self._reactor.getThreadPool()
        known, self._credentials = await deferToThreadPool(self._reactor, pool, server.files.read)
        algorithms = host_key_algorithms(known.kinds(server.host, server.port))
        transport = Transport(algorithms, lambda key: self._judge(known, key), self._secure, self._end)
        endpoint = HostnameEndpoint(self._reactor, server.host, server.port, timeout=server.connect_timeout)
        try:
            self._transport = transport
            await connectProtocol(endpoint, transport)  # type: ignore[no-untyped-call]
        except failures.TimeoutError:
            raise self._timed_out() from None
        except (failures.ConnectError, failures.DNSLookupError, OSError) as error:
            why = str(error).rstrip(".")
            raise errors.ConnectFailed(f"no connection to {server.shown}: {why}") from None
        await self._ready
        if transport.failure is not None:
            raise again(transport.failure)

    def _late(self, result: object, timeout: float) -> None:
        raise self._timed_out()

    def _timed_out(self) -> DataMoverError:
        return errors.TimedOut(
            f"{self._server.shown} did not let us in within {self._server.connect_timeout:g} s; "
            "is it an SSH server, and does a firewall let it answer?"
        )

    def _judge(self, known: KnownHosts, key: bytes) -> DataMoverError | None:
        server = self._server
        verdict = known.verdict(server.host, server.port, key)
        if verdict is Verdict.KNOWN:
            return None
        offered = f"{server.shown} offers the {words(key_kind(key))} key {fingerprint(key)}"
        way = (
            "Compare that with what its administrator tells; if it is right, put the line that "
            f"`datamover-admin scan-host-key` prints for the server into {server.files.known_hosts}"
        )
        if verdict is Verdict.REVOKED:
            return errors.HostKeyMismatch(f"{offered}, which {server.files.known_hosts} marks as revoked")
        if verdict is Verdict.CHANGED:
            return errors.HostKeyMismatch(f"{offered}, but is known by another: it may be another machine. {way}")
        return errors.HostKeyMismatch(f"{offered}, and no line of known_hosts_file names it. {way}")

    def _secure(self, transport: Transport) -> None:
        login = Login(self._server.user, self._credentials, self._channels)
        self._credentials = Credentials()
        transport.requestService(login)

    def _logged_in(self) -> None:
        log.info("logged in to {server} as {user}", server=self._server.shown, user=self._server.user)
        if not self._ready.called:
            self._ready.callback(None)

    def _end(self, reason: DataMoverError) -> None:
        self._ended = True
        self._stop_idling()
        log.info("the connection to {server} ended: {reason}", server=self._server.shown, reason=reason.message)
        if not self._ready.called:
            self._ready.addErrback(lambda _: None)
            self._ready.errback(again(reason))
        farewells, self._farewells = self._farewells, []
        for farewell in farewells:
            farewell.callback(None)

    async def close(self) -> None:
        """Say good-bye and close; completes when the socket is gone."""
        transport = self._transport
        if transport is None or self.gone:
            return
        if transport.failure is None:
            transport.leave()
        self._stop_idling()
        farewell: Deferred[None] = Deferred()
        self._farewells.append(farewell)
        impatience = self._reactor.callLater(PATIENCE, transport.transport.abortConnection)
        try:
            await farewell
        finally:
            if impatience.active():
                impatience.cancel()
            if farewell in self._farewells:
                self._farewells.remove(farewell)

    # Channels ------------------------------------------------------------------------------------------------------

    def lease(self) -> "Lease":
        """Return a channel for the length of an ``async with``, or until the lease is given back."""
        return Lease(self)

    async def take(self) -> Session:
        """Return a channel of one's own, or, when there are enough, the one with the fewest users."""
        self._users += 1
        self._stop_idling()
        try:
            return await self._take()
        except BaseException:
            self._left()
            raise

    def give_back(self, session: Session) -> None:
        """Let go of what ``take`` returned."""
        session.users -= 1
        self._left()

    def _left(self) -> None:
        self._users -= 1
        if not self._users and not self._ended:
            self._idle = self._reactor.callLater(IDLE, self._tire)

    def _stop_idling(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None and idle.active():
            idle.cancel()

    def _tire(self) -> None:
        if self._transport is not None and self._transport.failure is None:
            self._transport.failure = errors.ConnectionLost("the connection was closed, for nothing used it")
            self._transport.leave()

    async def _take(self) -> Session:
        session = self._idlest()
        if session is None or (session.users and len(self._sessions) < self._limit):
            await self._opening.acquire()
            try:
                session = self._idlest()
                if session is None or (session.users and len(self._sessions) < self._limit):
                    session = await self._one_more(session)
                session.users += 1
            finally:
                self._opening.release()
        else:
            session.users += 1
        return session

    def _idlest(self) -> Session | None:
        self._sessions = [session for session in self._sessions if session.channel.failure is None]
        return min(self._sessions, key=lambda session: session.users, default=None)

    async def _one_more(self, instead: Session | None) -> Session:
        """Open a channel; where the server refuses one, be content with those there are."""
        channel = SftpChannel(self._reactor, self._server.idle_timeout)
        channel.conn = self._channels
        session = Session(channel)
        if self._ended:
            raise errors.ConnectionLost("the connection broke")
        self._channels.openChannel(channel)  # type: ignore[no-untyped-call]
        assert self._transport is not None
        heard = self._transport.received
        opening = Deferred.fromCoroutine(session.open())
        try:
            await opening.addTimeout(self._server.connect_timeout, self._reactor, onTimeoutCancel=self._late)
        except errors.TimedOut as error:
            channel.fail(error)
            if self._transport.received == heard:
                self._transport.fail(error)
            raise
        except errors.ServerError:
            if instead is None:
                raise
            self._limit = len(self._sessions)
            return instead
        except BaseException:
            channel.fail(errors.ConnectionLost("the channel was given up while it was opened"))
            raise
        self._sessions.append(session)
        return session


class Lease:
    """A channel held; given back once."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._session: Session | None = None

    async def __aenter__(self) -> Session:
        self._session = await self.link.take()
        return self._session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()

    def give_back(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self.link.give_back(session)
