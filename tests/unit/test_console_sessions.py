"""Sessions at the console of which more is asked than people ask: much pasted text, and odd requests over SSH.

On their clock work takes time.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from struct import pack
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.conch.ssh.common import NS
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport

from datamover.audit.trail import AuditTrail
from datamover.bounds.console import KEYS_IN_TURN, LARGEST_TERMINAL, LONGEST_VARIABLE, MOST_VARIABLES
from datamover.console import ConsoleBackend, ConsoleConnections, ConsoleLimits, ConsoleServices, Histories
from datamover.console.ssh_session import ConsoleUser
from datamover.console.telnet import TelnetFactory
from datamover.console.visitor import Visitor
from tests.fakes import MemoryTrail, PlainLogins
from tests.unit.test_console_guarded import Working, turn

LINES = 2000


def backend(clock: Working, directory: Path) -> ConsoleBackend:
    """Return one whose operator has the password "open", and whose commands have no service."""
    nothing: Any = None
    now = SimpleNamespace(operators=PlainLogins({"operator": "open"}), settings=None)
    runtimes: Any = SimpleNamespace(now=now)
    services = ConsoleServices(
        nothing, nothing, runtimes, AuditTrail(MemoryTrail(), clock), nothing, nothing, nothing, clock
    )
    return ConsoleBackend(services, Histories(directory))


@pytest.fixture
def clock() -> Working:
    return Working()


@pytest.fixture
def telnet(clock: Working, tmp_path: Path) -> Any:
    """A connection whose operator has logged in."""
    connections = ConsoleConnections(clock, lambda: ConsoleLimits(4, 1.0))
    factory = TelnetFactory(backend(clock, tmp_path), connections)
    connection: Any = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
    connection.makeConnection(StringTransport())  # type: ignore[no-untyped-call]
    connection.dataReceived(b"operator\r\nopen\r\n")
    settle(clock, lambda: connection.transport.producerState == "producing")
    assert b">>> " in connection.transport.value()
    return connection


def settle(clock: Working, condition: Callable[[], bool], each: Callable[[], None] = lambda: None) -> int:
    """Run turns until ``condition`` holds and no call is due, ``each`` after every turn; return their number."""
    turns = 0
    while not condition() or any(call.getTime() <= clock.rightNow for call in clock.getDelayedCalls()):
        turn(clock)
        each()
        turns += 1
        assert turns < 100_000
    return turns


def test_lines_are_taken_in_turns(telnet: Any, clock: Working) -> None:
    """A turn runs the lines that it has time for; all are run, and nothing more is received before."""
    taken = [0]
    telnet.transport.clear()

    def count() -> None:
        taken.append(telnet.transport.value().count(b">>> 1\r\n1\r\n"))

    telnet.dataReceived(b"1\r" * LINES)
    count()
    assert telnet.transport.producerState == "paused"
    settle(clock, lambda: telnet.transport.producerState == "producing", count)
    assert taken[-1] == LINES
    assert max(now - before for before, now in pairwise(taken)) <= 2 * KEYS_IN_TURN / Working.STEP


def test_a_long_line_that_ends_in_a_later_turn(telnet: Any, clock: Working) -> None:
    """A carriage return that comes last is the end of the line, in whichever turn it is read."""
    telnet.transport.clear()
    telnet.dataReceived(b"1" + b" + 1" * 1500 + b"\r")
    settle(clock, lambda: telnet.transport.producerState == "producing")
    assert b"1501\n" in telnet.transport.value().replace(b"\r", b"")


def session(clock: Working, directory: Path) -> Any:
    """Return a session over SSH that has just been opened."""
    user = ConsoleUser(backend(clock, directory), Visitor("operator", "ssh 127.0.0.1"))
    return user.lookupChannel(b"session", 2**20, 2**15, b"")  # type: ignore[no-untyped-call]


def test_the_environment_has_a_bound(clock: Working, tmp_path: Path) -> None:
    """Of many variables the first are kept, and none that is long; each request is answered all the same."""
    one = session(clock, tmp_path)
    longest = NS(b"L") + NS(b"x" * (LONGEST_VARIABLE - 1))
    assert one.requestReceived(b"env", NS(b"NAME") + NS(b"x" * LONGEST_VARIABLE))
    assert one.requestReceived(b"env", longest)
    for number in range(1000):
        assert one.requestReceived(b"env", NS(b"%d" % number) + NS(b"\xff"))
    assert len(one._environment) == MOST_VARIABLES
    assert {"L", "0"} <= one._environment.keys()
    assert "NAME" not in one._environment


@pytest.mark.parametrize(
    ("kind", "size", "modes"),
    [
        (b"xterm", (80, 24, 0, 0), b""),
        (b"x" * 100_000, (2**32 - 1, 2**32 - 1, 2**32 - 1, 2**32 - 1), b"\xff" * 100_000),
        (b"\xff\0\x1b", (0, 0, 0, 0), b"\x01"),
    ],
)
def test_a_terminal_has_bounds(
    clock: Working, tmp_path: Path, kind: bytes, size: tuple[int, ...], modes: bytes
) -> None:
    """Whatever a client says of its terminal: a name has a length, a screen a size, and modes are not even read."""
    one = session(clock, tmp_path)
    assert one.requestReceived(b"pty-req", NS(kind) + pack(">4L", *size) + NS(modes))
    assert len(one._kind) <= LONGEST_VARIABLE
    assert all(each <= LARGEST_TERMINAL for each in one._size)
    assert one.requestReceived(b"window-change", pack(">4L", *size))
    assert all(each <= LARGEST_TERMINAL for each in one._size)
