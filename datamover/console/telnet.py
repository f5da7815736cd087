"""The console over telnet: a login, then a Python prompt with a few names that answer with tables.

Telnet encrypts nothing: the configuration lets it listen on loopback or a Unix socket alone. Whoever logs in may run
any Python in the service, as the manhole always could.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.conch.insults import insults
from twisted.conch.manhole import Manhole, ManholeInterpreter
from twisted.conch.telnet import AuthenticatingTelnetProtocol, ITelnetProtocol, TelnetBootstrapProtocol, TelnetTransport
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from datamover.errors import DataMoverError

log = Logger()

WELCOME = "datamover: help() lists what there is; Ctrl-D leaves.\n"

Check = Callable[[str, str], Awaitable[bool]]
"""Tells whether a user name and a password are the operator's."""


def telnet_factory(check: Check, namespace: Mapping[str, Any]) -> ServerFactory:
    """Return what serves the console; ``namespace`` is typed name -> function that returns a coroutine of text."""
    portal = Portal(_Realm(namespace), [_Checker(check)])

    class _Factory(ServerFactory):
        noisy = False

        def buildProtocol(self, _: Any) -> TelnetTransport:  # noqa: N802
            return TelnetTransport(AuthenticatingTelnetProtocol, portal)

    return _Factory()


@implementer(ICredentialsChecker)
class _Checker:
    credentialInterfaces = (IUsernamePassword,)  # noqa: N815

    def __init__(self, check: Check) -> None:
        self._check = check

    def requestAvatarId(self, credentials: Any) -> "Deferred[bytes | tuple[()]]":  # noqa: N802
        return Deferred.fromCoroutine(self._request(credentials.username, credentials.password))

    async def _request(self, username: bytes, password: bytes) -> bytes | tuple[()]:
        if await self._check(username.decode("utf-8", "replace"), password.decode("utf-8", "replace")):
            log.info("{user} logged in at the console", user=username.decode("utf-8", "replace"))
            return username
        raise UnauthorizedLogin("wrong user name or password")


@implementer(IRealm)
class _Realm:
    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: type[Interface]) -> Any:  # noqa: N802, N803
        if ITelnetProtocol not in interfaces:
            raise NotImplementedError("the console is served over telnet alone")
        bootstrap = TelnetBootstrapProtocol(insults.ServerProtocol, Console, dict(self._namespace))
        return ITelnetProtocol, bootstrap, lambda: None


class _Interpreter(ManholeInterpreter):
    """Shows the text that a name answers with, once it is there; everything else as Python does."""

    def displayhook(self, obj: Any) -> None:
        if hasattr(obj, "cr_await"):
            Deferred.fromCoroutine(obj).addCallbacks(self._show, self._fail)
        else:
            super().displayhook(obj)

    def _show(self, text: Any) -> None:
        self.handler.addOutput(f"{text}\n".encode(), True)

    def _fail(self, failure: Failure) -> None:
        error = failure.value
        self._show(error.message if isinstance(error, DataMoverError) else failure.getTraceback())


class Console(Manhole):
    """One session."""

    def connectionMade(self) -> None:  # noqa: N802
        super().connectionMade()
        self.interpreter = _Interpreter(self, self.namespace)

    def initializeScreen(self) -> None:  # noqa: N802
        self.terminal.reset()
        self.terminal.write(WELCOME.encode())
        self.terminal.write(self.ps[self.pn])
        self.setInsertMode()
