"""The logins of the console: the check of a password, and the avatar of a visitor who has logged in."""

# ruff: noqa: N802, N803, N815 - the names of what is overridden are Twisted's

from collections.abc import Callable
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred
from zope.interface import Interface, implementer

from datamover.console.backend import ConsoleBackend
from datamover.console.visitor import Visitor


@implementer(ICredentialsChecker)
class PasswordChecker:
    """Has the console's backend check a name and a password."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, backend: ConsoleBackend, origin: str) -> None:
        self._backend = backend
        self._origin = origin

    def requestAvatarId(self, credentials: Any) -> "Deferred[bytes | tuple[()]]":
        return Deferred.fromCoroutine(self._request(credentials.username, credentials.password))

    async def _request(self, username: bytes, password: bytes) -> bytes | tuple[()]:
        words = (username.decode("utf-8", "replace"), password.decode("utf-8", "replace"))
        if not await self._backend.check(*words, self._origin):
            raise UnauthorizedLogin("wrong user name or password")
        return username


@implementer(IRealm)
class Realm:
    """Makes the avatar of a visitor who has logged in."""

    def __init__(
        self,
        interface: type[Interface],
        avatar: Callable[[Visitor], Any],
        origin: str,
        let_in: Callable[[], None],
    ) -> None:
        """``avatar`` makes what provides ``interface``; ``let_in`` is called at each login."""
        self._interface = interface
        self._avatar = avatar
        self._origin = origin
        self._let_in = let_in

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: type[Interface]) -> Any:
        if self._interface not in interfaces:
            raise NotImplementedError(f"the console makes only {self._interface.__name__}")
        visitor = Visitor(avatarId.decode("utf-8", "replace"), self._origin)
        self._let_in()
        return self._interface, self._avatar(visitor), lambda: None
