"""A limit on bytes a second."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from datamover.engine.throttle import QUANTUM, Throttle, Throttles
from tests.unit.outcomes import failure


def take(throttle: Throttle, size: int) -> "Deferred[float]":
    return Deferred.fromCoroutine(throttle.take(size))


def results(*deferreds: "Deferred[float]") -> list[object]:
    """Return what has fired."""
    return [deferred.result for deferred in deferreds if deferred.called]


def test_waits_as_long_as_the_bytes_take() -> None:
    """A thousand bytes at a thousand a second take a second."""
    clock = Clock()
    taken = take(Throttle(clock, 1000), 1000)
    clock.advance(0.999)
    assert not taken.called
    clock.advance(0.001)
    assert results(taken) == [1.0]


def test_short_waits_add_up() -> None:
    """What is too short to wait for is waited for together with the next."""
    clock = Clock()
    throttle = Throttle(clock, 1000)
    assert results(take(throttle, 15)) == [0.0]
    assert results(second := take(throttle, 15)) == []
    clock.advance(0.03)
    assert results(second) == [0.03]


def test_shared_in_turn() -> None:
    """Two streams have the rate between them, and are served in the order in which they came."""
    clock = Clock()
    throttle = Throttle(clock, 1000)
    one, other = take(throttle, 500), take(throttle, 500)
    clock.advance(0.5)
    assert results(one, other) == [0.5]
    clock.advance(0.5)
    assert results(one, other) == [0.5, 1.0]


def test_idle_time_is_not_saved_up() -> None:
    """After a pause there is no burst: the rate counts from now."""
    clock = Clock()
    throttle = Throttle(clock, 1000)
    clock.advance(3600)
    taken = take(throttle, 1000)
    clock.advance(0.99)
    assert not taken.called
    clock.advance(0.01)
    assert taken.called


def test_cancelling_leaves_nothing_behind() -> None:
    """Who gives up the turn is not called later."""
    clock = Clock()
    taken = take(Throttle(clock, 1), 10)
    taken.cancel()
    assert isinstance(failure(taken), CancelledError)
    assert not clock.getDelayedCalls()


def test_share_of_all_processes() -> None:
    """Processes have a destination's rate between them, as their transfers are; alone, one has all of it."""
    here, there = (Throttles(Clock(), {"a": 1000, "b": None}.get) for _ in range(2))
    one, other = here.of("a"), there.of("a")
    assert one is not None
    assert other is not None
    assert here.of("b") is None

    here.share({"a": (3, 4), "b": (1, 1)})
    there.share({"a": (1, 4)})
    assert (one.rate, other.rate) == (750, 250)
    here.share({"a": (3, 3)})
    there.share({})
    assert (one.rate, other.rate) == (1000, 1000)


def test_large_pieces_have_no_larger_share() -> None:
    """One who brings a megabyte at a time and one who brings little are served alike."""
    clock = Clock()
    throttle = Throttle(clock, QUANTUM)
    large = take(throttle, 16 * QUANTUM)
    small = take(throttle, QUANTUM)
    clock.advance(2)
    assert results(large, small) == [2.0]
