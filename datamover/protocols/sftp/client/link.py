"""One SSH connection to a file server: connects and logs in within a time limit, and closes with a disconnect message.

``leases`` assigns its SFTP channels to their users.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

from twisted.internet import error as failures
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.logger import Logger

from datamover import errors
from datamover.concurrency.batcher import Batch
from datamover.concurrency.host_names import Resolved, addresses, late
from datamover.concurrency.threads import Threads
from datamover.concurrency.waiters import Waiters
from datamover.errors import DataMoverError
from datamover.protocols.sftp.client.leases import Channels, Leases
from datamover.protocols.sftp.client.session import SftpSession
from datamover.protocols.sftp.ssh.algorithms import host_key_algorithms
from datamover.protocols.sftp.ssh.known_hosts import KnownHosts, Verdict, entry_name, fingerprint, key_kind
from datamover.protocols.sftp.ssh.login import SecretFiles, SshCredentials, SshLogin
from datamover.protocols.sftp.ssh.transport import SshTransport
from datamover.protocols.sftp.ssh.wire import words

_SYNCED = 1000
"""File names that one request makes durable together, and directories that are remembered for that."""

log = Logger()


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """The server's address, the user, the secrets and the time limits, in seconds."""

    host: str
    port: int
    user: str
    files: SecretFiles = field(repr=False)
    connect_timeout: float
    idle_timeout: float

    @property
    def shown(self) -> str:
        return entry_name(self.host, self.port)


class Link:
    """A connection: logged in when ``open`` has completed, ``usable`` until it is lost."""

    def __init__(self, reactor: Any, server: LinkSettings, threads: Threads) -> None:
        """``threads`` read the files that ``server`` names."""
        self._reactor = reactor
        self._server = server
        self._threads = threads
        self._late = (
            f"the files that are needed to log in to {server.shown} were not read within "
            f"{server.connect_timeout:g} s; does their disk answer?"
        )
        """The message of TimedOut if the current step takes too long."""
        self._transport: SshTransport | None = None
        self._credentials = SshCredentials()
        self._channels = Channels(self._logged_in)
        self._leases = Leases(reactor, self._channels, server.connect_timeout, server.idle_timeout)
        self._ready: Deferred[None] = Deferred()
        self._ended = False
        self._closed: Waiters[None] = Waiters()
        self.directories: dict[str, tuple[float, bytes]] = {}
        """Directories verified to lie below the root -> when they were verified, and their real path."""
        self._syncing: dict[bytes, Batch[SftpSession, None]] = {}

    @property
    def usable(self) -> bool:
        """Whether it is logged in and not lost."""
        transport = self._transport
        return transport is not None and transport.logged_in and transport.failure is None

    @property
    def gone(self) -> bool:
        """Whether there is no socket: not yet, or no longer."""
        return self._ended or self._transport is None or self._transport.transport is None

    @property
    def extensions(self) -> frozenset[bytes] | None:
        """The server's SFTP extensions; None before a channel was opened."""
        return self._leases.extensions

    @property
    def openssh(self) -> bool:
        """Whether it is OpenSSH's own SFTP server; False before a channel was opened."""
        return self._leases.openssh

    # Start and end -------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and log in, within the server's connect_timeout. Cancelling drops the connection.

        Raises TimedOut, ConnectFailed, HostKeyMismatch, AuthenticationFailed, ConnectionLost.
        """
        attempt = Deferred.fromCoroutine(self._open())
        try:
            await attempt.addTimeout(self._server.connect_timeout, self._reactor, onTimeoutCancel=self._give_up)
        except BaseException:
            if self._transport is not None and self._transport.transport is not None:
                self._transport.fail(errors.ConnectionLost("the connection was given up while it was made"))
            raise

    async def _open(self) -> None:
        server = self._server
        known, self._credentials = await self._threads.run(server.files.read)
        self._late = late(server.host, server.connect_timeout)
        found = await addresses(self._reactor, server.host, server.port, server.connect_timeout)
        self._late = (
            f"{server.shown} did not complete the login within {server.connect_timeout:g} s; "
            "is it an SSH server, and does a firewall let it answer?"
        )
        if not found:
            raise errors.ConnectFailed(f"no connection to {server.shown}: no address is known for {server.host}")
        algorithms = host_key_algorithms(known.kinds(server.host, server.port))
        transport = SshTransport(algorithms, lambda key: self._judge(known, key), self._secure, self._end)
        reactor = Resolved(self._reactor, found)
        endpoint = HostnameEndpoint(reactor, found[0].host, server.port, timeout=server.connect_timeout)
        try:
            self._transport = transport
            await connectProtocol(endpoint, transport)  # type: ignore[no-untyped-call]
        except failures.TimeoutError:
            raise errors.TimedOut(self._late) from None
        except (failures.ConnectError, OSError) as error:
            why = str(error).rstrip(".")
            raise errors.ConnectFailed(f"no connection to {server.shown}: {why}") from None
        await self._ready
        if transport.failure is not None:
            raise transport.failure.copy()

    def _give_up(self, result: object, timeout: float) -> None:
        raise errors.TimedOut(self._late)

    def _judge(self, known: KnownHosts, key: bytes) -> DataMoverError | None:
        server = self._server
        verdict = known.verdict(server.host, server.port, key)
        if verdict is Verdict.KNOWN:
            return None
        offered = f"{server.shown} offers the {words(key_kind(key))} key {fingerprint(key)}"
        way = (
            "Compare that with what its administrator states; if it is the same, put the line of that key from "
            f"`datamover-admin scan-host-key {server.shown}` into {server.files.known_hosts}"
        )
        if verdict is Verdict.REVOKED:
            return errors.HostKeyMismatch(f"{offered}, which {server.files.known_hosts} marks as revoked")
        if verdict is Verdict.CHANGED:
            return errors.HostKeyMismatch(f"{offered}, but is known by another: it may be another machine. {way}")
        return errors.HostKeyMismatch(f"{offered}, and no line of known_hosts_file names it. {way}")

    def _secure(self, transport: SshTransport) -> None:
        login = SshLogin(self._server.user, self._credentials, self._channels)
        self._credentials = SshCredentials()
        login.begin(transport)

    def _logged_in(self) -> None:
        log.info("logged in to {server} as {user}", server=self._server.shown, user=self._server.user)
        if not self._ready.called:
            self._ready.callback(None)

    def _end(self, reason: DataMoverError) -> None:
        self._ended = True
        self._leases.stop()
        log.info("the connection to {server} ended: {reason}", server=self._server.shown, reason=reason.message)
        if not self._ready.called:
            self._ready.addErrback(lambda _: None)
            self._ready.errback(reason.copy())
        self._closed.wake(None)

    async def close(self) -> None:
        """Send SSH_MSG_DISCONNECT and close; completes when the socket is closed."""
        transport = self._transport
        if transport is None or self.gone:
            return
        if transport.failure is None:
            transport.leave()
        self._leases.stop()
        await self._closed.wait()

    async def synced(self, session: SftpSession, directory: bytes) -> None:
        """Make the names in a directory durable; calls made during a request share the next one."""
        if directory not in self._syncing:
            if len(self._syncing) >= _SYNCED:
                self._syncing.clear()
            self._syncing[directory] = Batch(partial(_sync, directory), _SYNCED)
        await self._syncing[directory].add(session)

    # Channels ------------------------------------------------------------------------------------------------------

    def lease(self) -> "ChannelLease":
        """Return a lease: it holds a channel within ``async with``, or until ``release``."""
        return ChannelLease(self, self._leases)


async def _sync(directory: bytes, sessions: Sequence[SftpSession]) -> Sequence[None]:
    await sessions[-1].sync_directory(directory)
    return [None] * len(sessions)


class ChannelLease:
    """The right to use a channel; released once."""

    def __init__(self, link: Link, leases: Leases) -> None:
        self.link = link
        self._leases = leases
        self._session: SftpSession | None = None

    async def take(self) -> SftpSession:
        """Take a channel, to be held until ``release``."""
        self._session = await self._leases.take()
        return self._session

    __aenter__ = take

    def prepare(self) -> None:
        """Begin to open more channels if the server is far, since one would bound the speed."""
        if self._session is not None and self._session.channel.far:
            self._leases.prepare()

    def beside(self) -> "ChannelLease":
        """Return another lease of the same connection."""
        return ChannelLease(self.link, self._leases)

    async def take_spare(self) -> SftpSession | None:
        """Take an unused channel, if there is one."""
        self._session = await self._leases.take_spare()
        return self._session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._leases.release(session)
