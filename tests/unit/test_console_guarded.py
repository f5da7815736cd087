"""What strangers send to the console."""

from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from datamover.console.guarded import BYTES, PIECE, ConsoleConnections, ConsoleLimits, Guarded


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
    one.dataReceived(b"x" * 3 * PIECE)
    one.dataReceived(b"x" * PIECE)
    assert one.read == [PIECE]
    turn(clock)
    assert one.read == [PIECE, PIECE]
    one.let_in()
    turn(clock)
    assert one.read == [PIECE, PIECE, 2 * PIECE]
    one.dataReceived(b"x" * 2 * BYTES)
    assert one.read[-1] == 2 * BYTES


def test_a_stranger_that_leaves_or_sends_too_much() -> None:
    """Nothing more of it is read, and no call is left behind."""
    clock = Clock()
    one, other = guest(clock), guest(clock)
    for each in (one, other):
        each.dataReceived(b"x" * 2 * PIECE)
    one.connectionLost()
    other.dataReceived(b"x" * BYTES)
    assert "more than a login takes" in other.told
    turn(clock)
    assert one.read == other.read == [PIECE]
    other.connectionLost()
    assert not clock.getDelayedCalls()
