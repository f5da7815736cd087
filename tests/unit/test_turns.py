"""Fair queuing of clients on the reactor's thread."""

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import provider

from datamover.api.http.turns import Turns
from datamover.bounds.door import TURN_SECONDS, WORK_IN_TURN


class Reactor(Clock):
    """A clock whose turns do what is due when they begin, as a reactor's do; work takes time."""

    def turn(self) -> float:
        """Let a turn pass; return the seconds of work that it did."""
        before = self.rightNow
        due = [call for call in self.calls if call.getTime() <= before]
        for call in due:
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)
        return self.rightNow - before


@dataclass(eq=False)
class Busy:
    """A client with ``pieces`` pieces of work of the same duration."""

    who: str
    turns: Turns
    clock: Reactor
    pieces: int = 1
    seconds: float = TURN_SECONDS / 4
    served: list[float] = field(default_factory=list)

    def ask(self) -> "Busy":
        self.turns.ask(self)
        return self

    def advance(self) -> None:
        self.served.append(self.clock.seconds())
        self.clock.rightNow += self.seconds
        self.pieces -= 1
        if self.pieces:
            self.turns.ask(self)


def test_a_turn_has_a_bound() -> None:
    """However many wait, a turn ends after its time and the piece that was begun; all are served in the end."""
    clock = Reactor()
    turns = Turns(clock)
    many = [Busy(f"address {number}", turns, clock, 3).ask() for number in range(200)]
    while clock.getDelayedCalls():
        assert clock.turn() <= TURN_SECONDS + TURN_SECONDS / 4 + 1e-9
    assert {len(each.served) for each in many} == {3}


def test_one_piece_a_turn() -> None:
    """Who has more to do does one piece of it in a turn, even where nobody else waits."""
    clock = Reactor()
    alone = Busy("a", Turns(clock), clock, 5, 0.0).ask()
    for served in range(1, 6):
        clock.turn()
        assert len(alone.served) == served


def test_who_asks_now_and_then_goes_first() -> None:
    """A hundred connections of a stranger that always have more to do keep a client waiting for one turn."""
    clock = Reactor()
    turns = Turns(clock)
    for _ in range(100):
        Busy("stranger", turns, clock, 1000).ask()
    for _ in range(50):
        clock.turn()
        client = Busy("client", turns, clock).ask()
        clock.turn()
        assert client.served


def test_many_connections_of_one_count_as_one() -> None:
    """Two that always have more to do get half of the time each, whether by one connection or by a hundred."""
    clock = Reactor()
    turns = Turns(clock)
    many = [Busy("many", turns, clock, 10_000).ask() for _ in range(100)]
    one = [Busy("one", turns, clock, 10_000).ask() for _ in range(2)]
    for _ in range(500):
        clock.turn()
    times = [sum(len(each.served) for each in group) for group in (many, one)]
    assert times[1] > 0.7 * times[0]
    assert max(len(each.served) for each in many) - min(len(each.served) for each in many) <= 1


def test_nobody_is_kept_waiting_for_good() -> None:
    """Who always comes anew, with pieces that take a whole turn, leaves others theirs."""
    clock = Reactor()
    turns = Turns(clock)
    patient = Busy("patient", turns, clock).ask()
    for _ in range(5):
        Busy("greedy", turns, clock, seconds=2 * TURN_SECONDS).ask()
        clock.turn()
    assert patient.served


def test_what_goes_wrong_stops_nobody() -> None:
    """An error in one flow is logged, and the others go on."""
    clock = Reactor()
    turns = Turns(clock)
    errors: list[LogEvent] = []

    class Broken:
        who = "broken"

        def advance(self) -> None:
            raise ZeroDivisionError

    @provider(ILogObserver)
    def observer(event: LogEvent) -> None:
        errors.append(event)

    globalLogPublisher.addObserver(observer)
    try:
        turns.ask(Broken())
        other = Busy("other", turns, clock).ask()
        clock.turn()
    finally:
        globalLogPublisher.removeObserver(observer)
    assert other.served
    assert [event["log_failure"].type for event in errors] == [ZeroDivisionError]


def steps(clock: Reactor, count: int, ended: list[str]) -> Generator[None, None, int]:
    try:
        for _ in range(count):
            clock.rightNow += WORK_IN_TURN / 4
            yield
        return count
    finally:
        ended.append("ended")


def test_long_work() -> None:
    """A generator runs a piece at a turn, and its value is what it returns; an error is its error."""
    clock = Reactor()
    turns, ended = Turns(clock), list[str]()
    done = turns.run("a", steps(clock, 40, ended))
    count = 0
    while clock.getDelayedCalls():
        assert clock.turn() <= WORK_IN_TURN + 1e-9
        count += 1
    assert count >= 10
    assert done.result == 40

    def broken() -> Generator[None, None, None]:
        yield
        raise ZeroDivisionError

    failing = turns.run("a", broken())
    clock.turn()
    caught: list[object] = []
    failing.addErrback(lambda failure: caught.append(failure.type))
    assert caught == [ZeroDivisionError]


def test_long_work_that_is_given_up() -> None:
    """Cancelling ends the generator, and no further step is made."""
    clock = Reactor()
    turns, ended = Turns(clock), list[str]()
    done = turns.run("a", steps(clock, 1000, ended))
    clock.turn()
    done.cancel()
    assert ended == ["ended"]
    caught: list[object] = []
    done.addErrback(lambda failure: caught.append(failure.type))
    assert caught == [CancelledError]
    clock.turn()
    assert not clock.getDelayedCalls()


@given(
    asks=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 6), st.floats(0, 3 * TURN_SECONDS)), max_size=40)
)
def test_whoever_asks(asks: list[tuple[str, int, float]]) -> None:
    """Everybody is served as often as they ask, and nothing is left behind."""
    clock = Reactor()
    turns = Turns(clock)
    wanted, all_ = Counter[str](), list[Busy]()
    for who, pieces, seconds in asks:
        all_.append(Busy(who, turns, clock, pieces, seconds).ask())
        wanted[who] += pieces
        clock.turn()
    while clock.getDelayedCalls():
        clock.turn()
    served = Counter[str]()
    for each in all_:
        served[each.who] += len(each.served)
    assert served == wanted
    assert not turns._queues
    assert not turns._order
    assert not turns._ahead


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_turn_may_be_asked_for_in_a_turn(pieces: int) -> None:
    """What is asked for in the midst of a turn belongs to the next, be it for another."""
    clock = Reactor()
    turns = Turns(clock)
    later = Busy("later", turns, clock, pieces)

    class Asking:
        who = "asking"

        def advance(self) -> None:
            later.ask()

    turns.ask(Asking())
    clock.turn()
    assert not later.served
    clock.turn()
    assert len(later.served) == 1
