"""The console over telnet: a name and a password, then the prompt.

Telnet encrypts nothing: the configuration lets it listen on loopback or a Unix socket alone.
"""

# ruff: noqa: N802 - the names of what is overridden are conch's

import re
import struct
from functools import partial
from typing import Any

from twisted.conch.telnet import (
    BRK,
    EC,
    ECHO,
    EL,
    IAC,
    IP,
    NAWS,
    SGA,
    AuthenticatingTelnetProtocol,
    ITelnetProtocol,
    TelnetProtocol,
    TelnetTransport,
)
from twisted.cred.credentials import UsernamePassword
from twisted.cred.portal import Portal
from twisted.internet.protocol import ServerFactory
from twisted.python.failure import Failure

from datamover.console.backend import ConsoleBackend
from datamover.console.guarded import ConsoleConnections, Guarded
from datamover.console.logins import PasswordChecker, Realm
from datamover.console.outlet import Outlet
from datamover.console.terminal.display import USUAL
from datamover.console.terminal.keys import ConsoleTerminal
from datamover.console.terminal.session import ConsoleSession
from datamover.console.visitor import Visitor

BINARY = b"\x00"
"""RFC 856: without it clients take the eighth bit off what is typed."""
TERMINAL_TYPE = b"\x18"
"""RFC 1091."""
ENVIRONMENT = b"\x27"
"""RFC 1572."""
_IS, _SEND = b"\x00", b"\x01"
_VARIABLE, _VALUE, _USER_VARIABLE = b"\x00", b"\x01", b"\x03"
_ASKED = b"NO_COLOR"
"""The one variable that is asked for."""
_COMMANDS = {IP: b"\x03", BRK: b"\x03", EC: b"\x7f", EL: b"\x15"}
"""Commands that stand for keys (RFC 854)."""


class TelnetFactory(ServerFactory):
    """Serves the console."""

    noisy = False

    def __init__(self, backend: ConsoleBackend, connections: ConsoleConnections) -> None:
        self._backend = backend
        self._connections = connections

    def buildProtocol(self, address: Any) -> TelnetTransport:
        origin = f"telnet {getattr(address, 'host', 'unix')}"
        made: list[_Transport] = []
        realm = Realm(ITelnetProtocol, partial(_Prompt, self._backend), origin, lambda: made[0].let_in())
        made.append(_Transport(_Login, Portal(realm, [PasswordChecker(self._backend, origin)])))
        made[0].connections, made[0].origin = self._connections, origin
        return made[0]


class _Reader(TelnetTransport):
    """Tells what was typed from telnet's own commands."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self.state == "newline" and isinstance(self.protocol, _Prompt):
            # A client that sends binary ends a line with CR alone: what would follow is not waited for.
            self.state = "data"
            self.applicationDataReceived(b"\r")


class _Transport(Guarded, _Reader):
    """One connection, each piece of which goes through ``_Reader``."""

    def farewell(self, why: str) -> None:
        transport: Any = self.transport
        transport.write(f"\r\n{why}\r\n".encode())

    @property
    def busy(self) -> bool:
        return isinstance(self.protocol, _Prompt) and self.protocol.busy


class _Login(AuthenticatingTelnetProtocol):
    """Asks for a name and a password, also where the client refuses the option ECHO."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data.replace(b"\r", b"\n"))

    def telnet_User(self, line: bytes) -> str:
        self.username = line
        self.transport.will(ECHO).addErrback(lambda _: None)
        self.transport.write(b"Password: ")
        return "Password"

    def telnet_Password(self, line: bytes) -> str:
        credentials = UsernamePassword(self.username, line)
        self.portal.login(credentials, None, ITelnetProtocol).addCallback(self._cbLogin).addErrback(self._ebLogin)
        return "Discard"

    def _ebLogin(self, failure: Failure) -> None:
        self.transport.wont(ECHO).addErrback(lambda _: None)
        super()._ebLogin(failure)


class _Prompt(TelnetProtocol):
    """The prompt's transport: has the client send each key as it is typed, and tell its size and its kind.

    Options that the client refuses are not used.
    """

    transport: Any

    def __init__(self, backend: ConsoleBackend, visitor: Visitor) -> None:
        self._environment: dict[str, str] = {}
        self._terminal = ConsoleTerminal(ConsoleSession, backend, visitor, USUAL, "", self._environment)

    def connectionMade(self) -> None:
        self._outlet = Outlet(self.transport.transport.write, lambda: self.transport.unread)
        self.transport.negotiationMap[NAWS] = self._resized
        self.transport.negotiationMap[TERMINAL_TYPE] = self._named
        self.transport.negotiationMap[ENVIRONMENT] = self._told_environment
        for option in (ECHO, SGA):
            self.transport.will(option).addErrback(lambda _: None)
        self.transport.do(NAWS).addErrback(lambda _: None)
        # conch negotiates one direction of an option at a time.
        self.transport.do(BINARY).addBoth(lambda _: self.transport.will(BINARY)).addErrback(lambda _: None)
        for option, question in ((TERMINAL_TYPE, _SEND), (ENVIRONMENT, _SEND + _USER_VARIABLE + _ASKED)):
            asking = partial(self._ask, option, question)
            self.transport.do(option).addCallbacks(asking, lambda _: None)
        self.write(b"\r\n")
        self._terminal.makeConnection(self)

    def connectionLost(self, reason: Any = None) -> None:
        self._terminal.connectionLost(reason)

    @property
    def busy(self) -> bool:
        """Whether keys wait that will be taken in the next turns of the event loop."""
        return self._terminal.busy

    def dataReceived(self, data: bytes) -> None:
        self._terminal.dataReceived(data)

    def enableLocal(self, option: bytes) -> bool:
        return option in (ECHO, SGA, BINARY)

    def enableRemote(self, option: bytes) -> bool:
        return option in (SGA, BINARY, NAWS, TERMINAL_TYPE, ENVIRONMENT)

    def unhandledCommand(self, command: bytes, argument: Any) -> None:
        if command in _COMMANDS:
            self._terminal.dataReceived(_COMMANDS[command])

    def write(self, data: bytes) -> None:
        """Send what the terminal is to show; ends of lines are whole already."""
        self._outlet.write(data.replace(IAC, IAC + IAC))

    def loseConnection(self) -> None:
        self._outlet.tell()
        self.transport.loseConnection()

    def _resized(self, data: list[bytes]) -> None:
        told = b"".join(data)
        if len(told) == 4 and self._terminal.terminalProtocol is not None:
            self._terminal.terminalProtocol.terminalSize(*struct.unpack("!HH", told))

    def _ask(self, option: bytes, question: bytes, _: object) -> None:
        self.transport.requestNegotiation(option, question)

    def _told_environment(self, data: list[bytes]) -> None:
        found = re.fullmatch(_IS + b"[" + _VARIABLE + _USER_VARIABLE + b"]" + _ASKED + _VALUE + b"(.*)", b"".join(data))
        if found is not None:
            self._environment[_ASKED.decode()] = found[1].decode("ascii", "replace")

    def _named(self, data: list[bytes]) -> None:
        told = b"".join(data)
        if told[:1] == _IS and self._terminal.terminalProtocol is not None:
            self._terminal.terminalProtocol.terminalKind(told[1:].decode("ascii", "replace"))
