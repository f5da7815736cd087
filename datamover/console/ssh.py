"""The console over SSH: keys of an authorized_keys file, then the prompt, or one line that is run and answered.

conch's server with today's algorithms alone. It has no strict key exchange, so neither chacha20-poly1305 nor
encrypt-then-MAC is offered (CVE-2023-48795). No files, no forwarding, no programs of this machine.
"""

# ruff: noqa: N802, N803, N815, RUF012 - the names of what is overridden are conch's

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.conch.error import ConchError
from twisted.conch.interfaces import IConchUser
from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.connection import (
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    OPEN_RESOURCE_SHORTAGE,
    SSHConnection,
)
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.transport import DISCONNECT_BY_APPLICATION, MSG_SERVICE_REQUEST, SSHServerTransport
from twisted.conch.ssh.userauth import SSHUserAuthServer
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import fail
from twisted.logger import Logger

from datamover.bounds.console import MOST_LOGIN_FAILURES, MOST_SESSIONS, SMALLEST_SSH_PACKET
from datamover.console.backend import ConsoleBackend
from datamover.console.guarded import ConsoleConnections, Guarded
from datamover.console.keys import NOT_A_KEY, SIGNATURES, AuthorizedKeys, KeyChecker, public_key
from datamover.console.logins import PasswordChecker, Realm
from datamover.console.ssh_session import ConsoleUser

NEVER = 2**20
"""Seconds."""
_KEY_EXCHANGE = range(20, 50)
"""The numbers of its messages."""
_QUIET = Logger(observer=lambda event: None)  # type: ignore[arg-type]  # conch tells every step at "info"


class OutOfOrderError(Exception):
    """A message that may not come yet."""


class ConsoleTransport(Guarded, SSHServerTransport):
    """One connection."""

    ourVersionString = b"SSH-2.0-datamover"
    supportedKeyExchanges = [
        b"curve25519-sha256",
        b"curve25519-sha256@libssh.org",
        b"ecdh-sha2-nistp256",
        b"ecdh-sha2-nistp384",
        b"ecdh-sha2-nistp521",
    ]
    supportedCiphers = [b"aes256-ctr", b"aes192-ctr", b"aes128-ctr"]
    supportedMACs = [b"hmac-sha2-256", b"hmac-sha2-512"]
    supportedCompressions = [b"none"]
    _log = _QUIET

    portal: Portal

    @property
    def busy(self) -> bool:
        return isinstance(self.service, ConsoleConnection) and self.service.busy

    def farewell(self, why: str) -> None:
        self.sendDisconnect(DISCONNECT_BY_APPLICATION, why.encode("utf-8", "replace"))

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        """Take a message; until keys are exchanged none but those that exchange them, or say nothing (RFC 4253)."""
        if messageNum >= MSG_SERVICE_REQUEST and messageNum not in _KEY_EXCHANGE and not self.isEncrypted("in"):
            raise OutOfOrderError(f"message {messageNum} before keys are exchanged")
        super().dispatchMessage(messageNum, payload)

    def sendExtInfo(self, extensions: Any) -> None:
        """Name the signature algorithms of logins (RFC 8308): conch would name the host key's."""
        super().sendExtInfo([(b"server-sig-algs", b",".join(SIGNATURES))])


class ConsoleConnection(SSHConnection):
    """The channels of a connection."""

    _log = _QUIET

    @property
    def busy(self) -> bool:
        """Whether a session has keys that will be taken in the next turns of the event loop."""
        return any(channel.busy for channel in self.channels.values())

    def getChannel(self, channelType: bytes, windowSize: int, maxPacket: int, data: bytes) -> Any:
        """Return the channel that a client opens; raises ConchError, which refuses it."""
        if len(self.channels) >= MOST_SESSIONS:
            raise ConchError(f"at most {MOST_SESSIONS} sessions at a time", OPEN_RESOURCE_SHORTAGE)
        if maxPacket < SMALLEST_SSH_PACKET:
            raise ConchError(f"packets of {SMALLEST_SSH_PACKET} bytes at least", OPEN_ADMINISTRATIVELY_PROHIBITED)
        return super().getChannel(channelType, windowSize, maxPacket, data)


class SshFactory(SSHFactory):
    """Serves the console. ``host_key`` is called when the factory begins to listen."""

    noisy = False
    protocol = ConsoleTransport
    primes = None
    _log = _QUIET

    def __init__(
        self,
        backend: ConsoleBackend,
        host_key: Callable[[], Key],
        access: Callable[[], "ConsoleAccess"],
        connections: ConsoleConnections,
        reactor: Any,
    ) -> None:
        """``access`` tells who may log in, as it is when a connection comes."""
        self._backend = backend
        self._host_key = host_key
        self._access = access
        self._connections = connections
        self.services = {b"ssh-userauth": _logins(reactor), b"ssh-connection": ConsoleConnection}

    def startFactory(self) -> None:
        key = self._host_key()
        self.privateKeys = {key.sshType(): key}
        self.publicKeys = {key.sshType(): key.public()}
        super().startFactory()

    def buildProtocol(self, address: Any) -> Any:
        origin = f"ssh {getattr(address, 'host', 'unix')}"
        connection: Any = super().buildProtocol(address)
        connection.connections, connection.origin = self._connections, origin
        connection.portal = self.portal = self._access().portal(self._backend, origin, connection.let_in)
        return connection


def _logins(reactor: Any) -> type[SSHUserAuthServer]:
    class Logins(SSHUserAuthServer):
        loginTimeout = NEVER  # the connection ends before
        attemptsBeforeDisconnect = MOST_LOGIN_FAILURES
        clock = reactor
        _log = _QUIET

        def serviceStarted(self) -> None:
            super().serviceStarted()
            connection: Any = self.transport
            self.portal = connection.portal
            offered = [self.interfaceToMethod.get(each) for each in self.portal.listCredentialsInterfaces()]
            self.supportedAuthentications = [method for method in offered if method]

        def auth_publickey(self, packet: bytes) -> Any:
            try:
                public_key(*getNS(packet[1:], 2)[:2])
            except NOT_A_KEY:
                return fail(UnauthorizedLogin("no key of a kind that is taken"))
            return super().auth_publickey(packet)

    return Logins


class ConsoleAccess:
    """Who may log in: the keys in a file, and the password if there is one."""

    def __init__(self, username: str, keys: Path | None, *, password: bool) -> None:
        self._username = username
        self._keys = keys
        self._password = password

    def portal(self, backend: ConsoleBackend, origin: str, let_in: Callable[[], None]) -> Portal:
        """Return what judges the logins of a connection; ``let_in`` is called where one is right."""
        portal = Portal(Realm(IConchUser, partial(ConsoleUser, backend), origin, let_in))
        if self._keys is not None:
            portal.registerChecker(KeyChecker(backend, origin, AuthorizedKeys(self._username, self._keys)))
        if self._password:
            portal.registerChecker(PasswordChecker(backend, origin))
        return portal
