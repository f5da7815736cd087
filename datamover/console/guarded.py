"""Limits on the console's connections: their number, and the time until a login.

A connection without a login has a limited time, and may send a limited number of bytes, until it logs in; what it sends
is read a little at a time, between the work for others. Where an address has as many of them as it may, or the console
as many connections, the oldest of them is closed for the next, so that nobody keeps operators out by holding
connections open. What is sent after the login, such as a long text that is pasted, is read in turns too, and no faster
than it is worked on. A peer that sends what is out of order is disconnected, with one line in the log.
"""

# ruff: noqa: N802 - the names of what is overridden are Twisted's

import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.bounds.console import (
    BYTES_BEFORE_LOGIN,
    FAREWELL_SECONDS,
    MOST_WITHOUT_LOGIN,
    PIECE_READ,
    READING_IN_TURN,
    TYPING_TIMES,
)
from datamover.text.quantities import count

log = Logger()

TELLING = 60.0
"""Seconds, at least, between two lines of the log about connections that were closed."""


@dataclass(frozen=True, slots=True)
class ConsoleLimits:
    """The limits of the console's connections."""

    connections: int
    login_seconds: float
    """Seconds for a login where nobody types."""


class ConsoleConnections:
    """The connections of all of the console's listeners."""

    def __init__(self, clock: IReactorTime, limits: Callable[[], ConsoleLimits]) -> None:
        """``limits`` returns the limits in force."""
        self._clock = clock
        self._limits = limits
        self._there: dict[Guarded, None] = {}
        self._without_login: dict[Guarded, str] = {}
        """Those that have not logged in, with their origins, the oldest first."""
        self._closed = 0
        self._told_at = -TELLING

    def come(self, one: "Guarded", origin: str) -> bool:
        """Admit a connection, which has not logged in yet; return False if there is no room."""
        limits = self._limits()
        beside = [each for each, where in self._without_login.items() if where == origin]
        if len(beside) >= MOST_WITHOUT_LOGIN:
            self.send_away(beside[0], "others want to log in")
        elif len(self._there) >= limits.connections and self._without_login:
            self.send_away(next(iter(self._without_login)), "others want to log in")
        if len(self._there) >= limits.connections:
            self._tell(f"all {limits.connections} connections that [limits] console_connections allows are in use")
            return False
        self._there[one] = None
        self._without_login[one] = origin
        seconds = TYPING_TIMES * limits.login_seconds
        one.due = self._clock.callLater(seconds, self.send_away, one, f"nobody has logged in within {seconds:.0f} s")
        return True

    def let_in(self, one: "Guarded") -> None:
        """Take note that a connection has logged in."""
        if one in self._without_login:
            del self._without_login[one]
            one.due.cancel()

    def seconds(self) -> float:
        return self._clock.seconds()

    def later(self, call: Callable[[], None]) -> IDelayedCall:
        """Make a call in the next turn of the event loop."""
        return self._clock.callLater(0, call)

    def has_no_login(self, one: "Guarded") -> bool:
        return one in self._without_login

    def end(self, one: "Guarded", why: str) -> None:
        """Send a connection the reason and close it; it is forgotten at once."""
        self.forget(one)
        transport: Any = one.transport
        with suppress(Exception):  # Its protocol may not be ready to send anything.
            one.farewell(why)
        transport.loseConnection()
        one.due = self._clock.callLater(FAREWELL_SECONDS, transport.abortConnection)

    def forget(self, one: "Guarded") -> None:
        """Take note that a connection has ended."""
        self._there.pop(one, None)
        self._without_login.pop(one, None)
        if one.due is not None and one.due.active():
            one.due.cancel()

    def send_away(self, one: "Guarded", why: str) -> None:
        """Close a connection without a login; the log tells how many there were, now and then."""
        one.end(why)
        self._tell(why)

    def _tell(self, why: str) -> None:
        self._closed += 1
        if self._clock.seconds() - self._told_at >= TELLING:
            log.warn("console: {closed} closed: {why}", closed=count(self._closed, "connection"), why=why)
            self._closed, self._told_at = 0, self._clock.seconds()


class Guarded(Protocol):
    """A mix-in for a protocol, before it in the bases, that applies the limits to its connections."""

    connections: ConsoleConnections
    origin: str
    """The way in and the address."""
    due: Any = None
    """The call that ends the connection."""
    _begun = False
    _over = False
    _taken = 0
    _left = b""
    """Bytes that were received and are not read yet."""
    _reading: IDelayedCall | None = None
    _held = False
    """Whether receiving is paused until ``_left`` was read."""
    unread = False
    """Whether the transport has asked to send no more, since the peer does not read."""

    @property
    def busy(self) -> bool:
        """Whether what was read is still worked on, so that nothing more is to be read."""
        return False

    def farewell(self, why: str) -> None:
        """Tell the peer why its connection is closed."""
        raise NotImplementedError

    def let_in(self) -> None:
        """Take note that somebody has logged in."""
        self.connections.let_in(self)
        transport: Any = self.transport
        transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self.unread = True

    def resumeProducing(self) -> None:
        self.unread = False
        transport: Any = self.transport
        if transport.disconnecting:
            transport.unregisterProducer()  # It waits for its producer otherwise.

    def stopProducing(self) -> None:
        """Do nothing: the connection has ended."""

    def end(self, why: str) -> None:
        """Close the connection; data that still arrives is ignored."""
        if not self._over:
            self._over = True
            self.connections.end(self, why)

    def connectionMade(self) -> None:
        self._begun = self.connections.come(self, self.origin)
        if self._begun:
            super().connectionMade()
        else:
            self._over = True
            transport: Any = self.transport
            transport.write(b"the console has no room for more connections\r\n")
            transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        self._taken += len(data)
        if self._taken > BYTES_BEFORE_LOGIN and self.connections.has_no_login(self):
            self.connections.send_away(self, "more was sent than a login takes")
            return
        self._left += data
        if self._reading is None:
            self._read()

    def _read(self) -> None:
        """Read a piece of what came, or as many as a turn has time for after the login, and the rest later."""
        self._reading = None
        until = self.connections.seconds() + READING_IN_TURN
        while self._left and not self._over and not self.busy:
            piece, self._left = self._left[:PIECE_READ], self._left[PIECE_READ:]
            self._pass_on(piece)
            if self.connections.has_no_login(self) or self.connections.seconds() >= until:
                break
        waits = not self._over and (bool(self._left) or self.busy)
        if waits:
            self._reading = self.connections.later(self._read)
        self._hold(waits and not self.connections.has_no_login(self))

    def _hold(self, held: bool) -> None:
        """Pause receiving, even of the connection's end, or resume it."""
        if held != self._held:
            self._held = held
            transport: Any = self.transport
            if held:
                transport.pauseProducing()
            else:
                transport.resumeProducing()

    def _pass_on(self, data: bytes) -> None:
        try:
            super().dataReceived(data)
        except CancelledError:
            raise
        except Exception as error:  # Whatever it sent, only this connection ends.
            place = traceback.extract_tb(error.__traceback__)[-1]
            self._refuse("what it sends is out of order", f": {error!r} in {place.name}")

    def connectionLost(self, reason: Failure | None = connectionDone) -> None:
        self.connections.forget(self)
        self._left = b""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        if self._begun:
            super().connectionLost(reason or connectionDone)

    def _refuse(self, why: str, more: str = "") -> None:
        log.warn("console: {origin} is disconnected: {why}{more}", origin=self.origin, why=why, more=more)
        self.end(why)
