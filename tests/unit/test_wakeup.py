"""An event that one coroutine waits for, with a timeout."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from datamover.concurrency.wakeup import Wakeup
from tests.unit.outcomes import failure


def wait(wakeup: Wakeup, seconds: float, *, eager: bool = True) -> "Deferred[None]":
    return Deferred.fromCoroutine(wakeup.wait(seconds, eager=eager))


def test_setting_wakes() -> None:
    """A waiter is woken by ``set``, and leaves no delayed call behind."""
    clock = Clock()
    wakeup = Wakeup(clock)
    waiting = wait(wakeup, 10)
    assert not waiting.called
    wakeup.set()
    assert waiting.called
    assert not clock.getDelayedCalls()


def test_time_wakes_too() -> None:
    """Without ``set`` the wait ends at its timeout."""
    clock = Clock()
    waiting = wait(Wakeup(clock), 10)
    clock.advance(9.9)
    assert not waiting.called
    clock.advance(0.1)
    assert waiting.called


def test_setting_before_the_wait() -> None:
    """``set`` without a waiter ends the next wait at once, and only that one."""
    clock = Clock()
    wakeup = Wakeup(clock)
    wakeup.set()
    wakeup.set()
    assert wait(wakeup, 10).called
    assert not wait(wakeup, 10).called


def test_a_patient_wait() -> None:
    """A wait that is not eager ignores an earlier ``set``, and is woken by a later one."""
    clock = Clock()
    wakeup = Wakeup(clock)
    wakeup.set()
    waiting = wait(wakeup, 10, eager=False)
    assert not waiting.called
    wakeup.set()
    assert waiting.called


def test_a_timeout_sets_nothing() -> None:
    """After a wait that timed out the next one waits."""
    clock = Clock()
    wakeup = Wakeup(clock)
    wait(wakeup, 1)
    clock.advance(1)
    assert not wait(wakeup, 1).called


def test_cancelling() -> None:
    """A cancelled wait leaves no delayed call; a later ``set`` ends the next wait."""
    clock = Clock()
    wakeup = Wakeup(clock)
    waiting = wait(wakeup, 10)
    waiting.cancel()
    assert isinstance(failure(waiting), CancelledError)
    assert not clock.getDelayedCalls()
    wakeup.set()
    assert wait(wakeup, 10).called
