"""The console over telnet: a name and a password, then the prompt.

Telnet encrypts nothing: the configuration lets it listen on loopback or a Unix socket alone.
"""

from typing import Any

from twisted.conch.telnet import AuthenticatingTelnetProtocol, ITelnetProtocol, TelnetBootstrapProtocol, TelnetTransport
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ServerFactory
from zope.interface import Interface, implementer

from datamover.console.session import Desk, Visitor, terminal


class TelnetFactory(ServerFactory):
    """Serves the console."""

    noisy = False

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def buildProtocol(self, address: Any) -> TelnetTransport:  # noqa: N802
        origin = f"telnet {getattr(address, 'host', 'unix')}"
        portal = Portal(_Realm(self._desk, origin), [PasswordChecker(self._desk, origin)])
        return TelnetTransport(AuthenticatingTelnetProtocol, portal)


@implementer(ICredentialsChecker)
class PasswordChecker:
    """Has the desk look at a name and a password."""

    credentialInterfaces = (IUsernamePassword,)  # noqa: N815

    def __init__(self, desk: Desk, origin: str) -> None:
        self._desk = desk
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
    def __init__(self, desk: Desk, origin: str) -> None:
        self._desk = desk
        self._origin = origin

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: type[Interface]) -> Any:  # noqa: N802, N803
        if ITelnetProtocol not in interfaces:
            raise NotImplementedError("this is the console over telnet")
        visitor = Visitor(avatarId.decode("utf-8", "replace"), self._origin)
        return ITelnetProtocol, TelnetBootstrapProtocol(terminal, self._desk, visitor), lambda: None
