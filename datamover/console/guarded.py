"""Limits on the console's connections: their number, and the time until a login.

A stranger has so many seconds and so many bytes to log in, and what it sends is read a little at a time, between the
work for others. Where an address has as many strangers as it may, or the
console as many connections, the stranger who has waited longest makes room for the next: so that whoever only holds
connections open keeps no operator out. Who has logged in stays, however idle. What a peer sends out of order ends its
connection, with one line in the log.
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

log = Logger()

STRANGERS = 16
"""Connections of one address that have not logged in."""
BYTES = 2**15
"""That a stranger may send; a login with ten keys takes half of it."""
PIECE = 512
"""Bytes of a stranger that are read at a time: parsing them takes a fraction of a millisecond."""
TYPING = 6
"""How many times as long as any login one at the console may take, where people type."""
LEAVING = 2.0
"""Seconds that a connection has to take its last words."""
TELLING = 60.0
"""Seconds between two lines of the log about strangers who were sent away."""


@dataclass(frozen=True, slots=True)
class ConsoleBounds:
    """How many there may be, and for how long."""

    connections: int
    login_seconds: float
    """That a login may take where nobody types."""


class ConsoleConnections:
    """Those of all the console's listeners."""

    def __init__(self, clock: IReactorTime, bounds: Callable[[], ConsoleBounds]) -> None:
        """``bounds`` tells those that hold now."""
        self._clock = clock
        self._bounds = bounds
        self._there: dict[Guarded, None] = {}
        self._strangers: dict[Guarded, str] = {}
        """With where they came from; who has waited longest is first."""
        self._sent_away = 0
        self._told_at = -TELLING

    def come(self, one: "Guarded", origin: str) -> bool:
        """Have a connection stay, as a stranger's; False: there is no room."""
        bounds = self._bounds()
        beside = [each for each, where in self._strangers.items() if where == origin]
        if len(beside) >= STRANGERS:
            self.send_away(beside[0], "others want to log in")
        elif len(self._there) >= bounds.connections and self._strangers:
            self.send_away(next(iter(self._strangers)), "others want to log in")
        if len(self._there) >= bounds.connections:
            self._tell(f"all {bounds.connections} connections that [limits] console_connections allows are in use")
            return False
        self._there[one] = None
        self._strangers[one] = origin
        seconds = TYPING * bounds.login_seconds
        one.due = self._clock.callLater(seconds, self.send_away, one, f"nobody has logged in within {seconds:.0f} s")
        return True

    def let_in(self, one: "Guarded") -> None:
        """Let one stay who has logged in."""
        if one in self._strangers:
            del self._strangers[one]
            one.due.cancel()

    def later(self, call: Callable[[], None]) -> IDelayedCall:
        """Make a call in the next turn of the event loop."""
        return self._clock.callLater(0, call)

    def is_stranger(self, one: "Guarded") -> bool:
        return one in self._strangers

    def end(self, one: "Guarded", why: str) -> None:
        """Close a connection, which is told why; it is forgotten at once."""
        self.forget(one)
        transport: Any = one.transport
        with suppress(Exception):  # How far the connection had come, nobody knows.
            one.farewell(why)
        transport.loseConnection()
        one.due = self._clock.callLater(LEAVING, transport.abortConnection)

    def forget(self, one: "Guarded") -> None:
        """Take note that a connection is over."""
        self._there.pop(one, None)
        self._strangers.pop(one, None)
        if one.due is not None and one.due.active():
            one.due.cancel()

    def send_away(self, one: "Guarded", why: str) -> None:
        """Close a stranger's connection; the log tells how many there were, now and then."""
        one.end(why)
        self._tell(why)

    def _tell(self, why: str) -> None:
        self._sent_away += 1
        if self._clock.seconds() - self._told_at >= TELLING:
            log.warn("console: {count} connections were closed: {why}", count=self._sent_away, why=why)
            self._sent_away, self._told_at = 0, self._clock.seconds()


class Guarded(Protocol):
    """What is mixed into a protocol, before it, so that its connections are guarded."""

    connections: ConsoleConnections
    origin: str
    """The way in and the address."""
    due: Any = None
    """The call that ends the connection."""
    _begun = False
    _over = False
    _taken = 0
    _left = b""
    """What a stranger has sent and was not read yet."""
    _reading: IDelayedCall | None = None

    def farewell(self, why: str) -> None:
        """Tell the peer why its connection is closed."""
        raise NotImplementedError

    def let_in(self) -> None:
        """Take note that somebody has logged in."""
        self.connections.let_in(self)

    def end(self, why: str) -> None:
        """Close the connection; nothing of what still comes is looked at."""
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
        if self._taken > BYTES and self.connections.is_stranger(self):
            self.connections.send_away(self, "they sent more than a login takes")
            return
        self._left += data
        if self._reading is None:
            self._read()

    def _read(self) -> None:
        """Read a piece of what was sent, and the rest later; all of it of one who has logged in."""
        self._reading = None
        while self._left and not self._over:
            size = PIECE if (stranger := self.connections.is_stranger(self)) else len(self._left)
            piece, self._left = self._left[:size], self._left[size:]
            self._pass_on(piece)
            if stranger and self._left and not self._over:
                self._reading = self.connections.later(self._read)
                return

    def _pass_on(self, data: bytes) -> None:
        try:
            super().dataReceived(data)
        except CancelledError:
            raise
        except Exception as error:  # Whatever it sent, nothing else is to suffer.
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
