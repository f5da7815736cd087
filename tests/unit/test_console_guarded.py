"""What strangers send to the console."""

from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from datamover.bounds.console import BYTES_BEFORE_LOGIN, PIECE_READ, READING_IN_TURN
from datamover.console.guarded import ConsoleConnections, ConsoleLimits, Guarded


class Reading(Protocol):
    """Keeps the length of each piece that is read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        self.read.append(len(data))


class Guest(Guarded, Reading):
    origin = "telnet 127.0.0.1"
    works = False
    transport: Any

    @property
    def busy(self) -> bool:
        return self.works

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


class Working(Clock):
    """A clock on which every look takes a while, as work would."""

    STEP = 0.0001

    def seconds(self) -> float:
        self.rightNow += self.STEP
        return super().seconds()


def test_a_stranger_is_read_a_little_at_a_time() -> None:
    """Before the login one piece is read in a turn, so that others have theirs; after it, more."""
    clock = Clock()
    one = guest(clock)
    one.dataReceived(b"x" * 3 * PIECE_READ)
    one.dataReceived(b"x" * PIECE_READ)
    assert one.read == [PIECE_READ]
    turn(clock)
    assert one.read == [PIECE_READ, PIECE_READ]
    one.let_in()
    turn(clock)
    assert one.read == [PIECE_READ] * 4
    one.dataReceived(b"x" * 2 * BYTES_BEFORE_LOGIN)
    assert sum(one.read) == 4 * PIECE_READ + 2 * BYTES_BEFORE_LOGIN


def test_what_is_pasted_is_read_in_turns() -> None:
    """After the login a turn has as many pieces as it has time for; nothing more is received until all are read."""
    clock = Working()
    one = guest(clock)
    one.let_in()
    one.dataReceived(b"x" * 4 * BYTES_BEFORE_LOGIN)
    turns = [len(one.read)]
    while one.transport.producerState == "paused":
        turn(clock)
        turns.append(len(one.read) - sum(turns))
    assert one.read == [PIECE_READ] * (4 * BYTES_BEFORE_LOGIN // PIECE_READ)
    assert len(turns) > 4
    assert max(turns) <= READING_IN_TURN / Working.STEP + 1
    assert not clock.getDelayedCalls()
    one.dataReceived(b"x")
    assert one.read[-1] == 1


def test_nothing_is_read_where_work_goes_on() -> None:
    """What was received waits, as does the end of the connection, until what was read before is worked off."""
    clock = Clock()
    one = guest(clock)
    one.let_in()
    one.works = True
    one.dataReceived(b"x" * 10)
    turn(clock)
    assert (one.read, one.transport.producerState) == ([], "paused")
    one.works = False
    turn(clock)
    assert (one.read, one.transport.producerState) == ([10], "producing")


def test_a_stranger_that_leaves_or_sends_too_much() -> None:
    """Nothing more of it is read, and no call is left behind."""
    clock = Clock()
    one, other = guest(clock), guest(clock)
    for each in (one, other):
        each.dataReceived(b"x" * 2 * PIECE_READ)
    one.connectionLost()
    other.dataReceived(b"x" * BYTES_BEFORE_LOGIN)
    assert "more was sent than a login takes" in other.told
    turn(clock)
    assert one.read == other.read == [PIECE_READ]
    other.connectionLost()
    assert not clock.getDelayedCalls()
