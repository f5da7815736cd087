"""The console over telnet: a name and a password, then the prompt.

Telnet encrypts nothing: the configuration lets it listen on loopback or a Unix socket alone.
"""

from collections.abc import Callable
from typing import Any

from twisted.conch.telnet import (
    ECHO,
    AuthenticatingTelnetProtocol,
    ITelnetProtocol,
    TelnetBootstrapProtocol,
    TelnetTransport,
)
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from zope.interface import Interface, implementer

from datamover.console.guarded import ConsoleConnections, Guarded
from datamover.console.session import Desk, Visitor, terminal

_QUIET = Logger(observer=lambda event: None)  # type: ignore[arg-type]  # for options that a client does not know


class TelnetFactory(ServerFactory):
    """Serves the console."""

    noisy = False

    def __init__(self, backend: Desk, connections: ConsoleConnections) -> None:
        self._desk = backend
        self._connections = connections

    def buildProtocol(self, address: Any) -> TelnetTransport:  # noqa: N802
        origin = f"telnet {getattr(address, 'host', 'unix')}"
        made: list[_Transport] = []
        realm = _Realm(self._desk, origin, lambda: made[0].let_in())
        made.append(_Transport(_Login, Portal(realm, [PasswordChecker(self._desk, origin)])))
        made[0].connections, made[0].origin = self._connections, origin
        return made[0]


class _Transport(Guarded, TelnetTransport):
    """One connection."""

    def farewell(self, why: str) -> None:
        transport: Any = self.transport
        transport.write(f"\r\n{why}\r\n".encode())


class _Login(AuthenticatingTelnetProtocol):
    """Asks for a name and a password, whatever the client answers to being asked to have the echo done by us."""

    transport: Any

    def telnet_User(self, line: bytes) -> str:  # noqa: N802
        self.username = line
        self.transport.will(ECHO).addErrback(lambda _: None)
        self.transport.write(b"Password: ")
        return "Password"

    def telnet_Password(self, line: bytes) -> str:  # noqa: N802
        credentials = UsernamePassword(self.username, line)
        self.transport.wont(ECHO).addErrback(lambda _: None)
        self.portal.login(credentials, None, ITelnetProtocol).addCallback(self._cbLogin).addErrback(self._ebLogin)
        return "Discard"


class _Bootstrap(TelnetBootstrapProtocol):
    """Asks for the options that a prompt wants; goes without those that are refused."""

    _log = _QUIET


@implementer(ICredentialsChecker)
class PasswordChecker:
    """Has the desk look at a name and a password."""

    credentialInterfaces = (IUsernamePassword,)  # noqa: N815

    def __init__(self, backend: Desk, origin: str) -> None:
        self._desk = backend
        self._origin = origin

    def requestAvatarId(self, credentials: Any) -> "Deferred[bytes | tuple[()]]":  # noqa: N802
        return Deferred.fromCoroutine(self._request(credentials.username, credentials.password))

    async def _request(self, username: bytes, password: bytes) -> bytes | tuple[()]:
        words = (username.decode("utf-8", "replace"), password.decode("utf-8", "replace"))
        if not await self._desk.check(*words, self._origin):
            raise UnauthorizedLogin("wrong user name or password")
        return username


@implementer(IRealm)
class _Realm:
    def __init__(self, backend: Desk, origin: str, let_in: Callable[[], None]) -> None:
        self._desk = backend
        self._origin = origin
        self._let_in = let_in

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: type[Interface]) -> Any:  # noqa: N802, N803
        if ITelnetProtocol not in interfaces:
            raise NotImplementedError("this is the console over telnet")
        visitor = Visitor(avatarId.decode("utf-8", "replace"), self._origin)
        self._let_in()
        return ITelnetProtocol, _Bootstrap(terminal, self._desk, visitor), lambda: None
