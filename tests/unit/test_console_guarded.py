"""What strangers send to the console."""

from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from datamover.bounds.console import BYTES_BEFORE_LOGIN, PIECE_BEFORE_LOGIN
from datamover.console.guarded import ConsoleConnections, ConsoleLimits, Guarded


class Reading(Protocol):
    """Keeps the length of each piece that is read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        self.read.append(len(data))


class Guest(Guarded, Reading):
    origin = "telnet 127.0.0.1"

    def farewell(self, why: str) -> None:
        self.told = why


def guest(clock: Clock) -> Guest:
    one = Guest()
    one.connections = ConsoleConnections(clock, lambda: ConsoleLimits(4, 1.0))
    one.makeConnection(StringTransport())  # type: ignore[no-untyped-call]
    return one


def turn(clock: Clock) -> None:
    """Make the calls that are due, and not those that they ask for."""
    due: list[Any] = [call for call in clock.getDelayedCalls() if call.getTime() <= clock.seconds()]
    for call in due:
        clock.calls.remove(call)
        call.func()


def test_a_stranger_is_read_a_little_at_a_time() -> None:
    """One piece a turn, so that others have theirs; the rest at once of who has logged in."""
    clock = Clock()
    one = guest(clock)
    one.dataReceived(b"x" * 3 * PIECE_BEFORE_LOGIN)
    one.dataReceived(b"x" * PIECE_BEFORE_LOGIN)
    assert one.read == [PIECE_BEFORE_LOGIN]
    turn(clock)
    assert one.read == [PIECE_BEFORE_LOGIN, PIECE_BEFORE_LOGIN]
    one.let_in()
    turn(clock)
    assert one.read == [PIECE_BEFORE_LOGIN, PIECE_BEFORE_LOGIN, 2 * PIECE_BEFORE_LOGIN]
    one.dataReceived(b"x" * 2 * BYTES_BEFORE_LOGIN)
    assert one.read[-1] == 2 * BYTES_BEFORE_LOGIN


def test_a_stranger_that_leaves_or_sends_too_much() -> None:
    """Nothing more of it is read, and no call is left behind."""
    clock = Clock()
    one, other = guest(clock), guest(clock)
    for each in (one, other):
        each.dataReceived(b"x" * 2 * PIECE_BEFORE_LOGIN)
    one.connectionLost()
    other.dataReceived(b"x" * BYTES_BEFORE_LOGIN)
    assert "more than a login takes" in other.told
    turn(clock)
    assert one.read == other.read == [PIECE_BEFORE_LOGIN]
    other.connectionLost()
    assert not clock.getDelayedCalls()
