"""The right to work on a placement group."""

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from datamover.engine.lease import Lease, LeaseEnd, Parked
from tests.unit.outcomes import failure

LEADER: Any = object()
"""Whose work it is; it does not matter here."""


class Monotonic:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def lease(clock: Monotonic, seconds: float = 10.0) -> Lease:
    return Lease(LEADER, clock.now + seconds, clock)


async def waiting(on: "Deferred[Any]") -> str:
    return f"got {await on}"


def cancelled(deferred: "Deferred[Any]") -> bool:
    """Tell whether a Deferred was cancelled."""
    return isinstance(failure(deferred), CancelledError)


def test_held_for_its_time() -> None:
    """It is held until it ends, and longer where it is renewed."""
    clock = Monotonic()
    held = lease(clock)
    clock.now += 9.9
    assert held.held
    clock.now += 0.1
    assert not held.held
    held.extend(clock.now + 5)
    assert held.held


def test_lost() -> None:
    """What was lost is not held, whatever its time."""
    held = lease(Monotonic())
    held.end(LeaseEnd.LOST)
    assert not held.held


def test_work_ends_as_it_ends() -> None:
    """The work's result comes through, and nothing is left to be cancelled."""
    held = lease(Monotonic())
    word: Deferred[str] = Deferred()
    working = Deferred.fromCoroutine(held.over(waiting(word)))
    word.callback("it")
    assert working.result == "got it"
    held.end(LeaseEnd.PARKED)


@pytest.mark.parametrize("ending", LeaseEnd)
def test_ending_stops_the_work(ending: LeaseEnd) -> None:
    """However it ends, the work is cancelled at once, and the reason stays."""
    held = lease(Monotonic())
    working = Deferred.fromCoroutine(held.over(waiting(Deferred())))
    held.end(ending)
    assert held.ending is ending
    assert cancelled(working)


def test_work_does_not_begin_after_the_end() -> None:
    """Once it has ended no work is begun."""
    held = lease(Monotonic())
    held.end(LeaseEnd.CANCELLED)
    begun = []

    async def work() -> None:
        begun.append(True)

    assert cancelled(Deferred.fromCoroutine(held.over(work())))
    assert not begun


def test_parking_waits_for_a_good_moment() -> None:
    """Parking does not cancel the work, but tells it."""
    held = lease(Monotonic())
    word: Deferred[str] = Deferred()
    working = Deferred.fromCoroutine(held.over(waiting(word)))
    assert not held.parking
    held.park()
    assert held.parking
    assert held.held
    assert not working.called
    word.callback("it")
    assert working.result == "got it"


def test_what_weighs_more() -> None:
    """A cancellation takes precedence over parking, the loss of the lease over everything."""
    held = lease(Monotonic())
    seen = []
    held.park()
    for ending in (LeaseEnd.CANCELLED, LeaseEnd.PARKED, LeaseEnd.LOST, LeaseEnd.CANCELLED):
        held.end(ending)
        held.park()
        seen.append(held.ending)
    assert seen == [LeaseEnd.CANCELLED, LeaseEnd.CANCELLED, LeaseEnd.LOST, LeaseEnd.LOST]


def test_past_the_point_of_no_return() -> None:
    """What is being placed is neither cancelled nor parked any more; only the loss of the lease stops it."""
    held = lease(Monotonic())
    working = Deferred.fromCoroutine(held.over(waiting(Deferred())))
    held.commit()
    held.end(LeaseEnd.CANCELLED)
    held.end(LeaseEnd.PARKED)
    assert not working.called
    assert held.ending is None
    held.end(LeaseEnd.LOST)
    assert cancelled(working)


def test_no_way_past_it_without_the_lease() -> None:
    """Who does not hold the lease any more may not begin to place."""
    clock = Monotonic()
    held = lease(clock, seconds=1)
    clock.now += 1
    with pytest.raises(Parked, match="whoever holds it goes on"):
        held.commit()
