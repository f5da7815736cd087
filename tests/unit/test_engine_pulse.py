"""Waiting for a word or for a while."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from datamover.concurrency.wakeup import Wakeup
from tests.unit.outcomes import failure


def wait(pulse: Wakeup, seconds: float, *, eager: bool = True) -> "Deferred[None]":
    return Deferred.fromCoroutine(pulse.wait(seconds, eager=eager))


def test_a_beat_wakes() -> None:
    """Who waits is woken by a beat, and leaves no delayed call behind."""
    clock = Clock()
    pulse = Wakeup(clock)
    waiting = wait(pulse, 10)
    assert not waiting.called
    pulse.set()
    assert waiting.called
    assert not clock.getDelayedCalls()


def test_time_wakes_too() -> None:
    """Without a beat the wait ends when its time is over."""
    clock = Clock()
    waiting = wait(Wakeup(clock), 10)
    clock.advance(9.9)
    assert not waiting.called
    clock.advance(0.1)
    assert waiting.called


def test_a_beat_that_nobody_heard_is_kept() -> None:
    """One beat that came before wakes the next wait at once, and that one alone."""
    clock = Clock()
    pulse = Wakeup(clock)
    pulse.set()
    pulse.set()
    assert wait(pulse, 10).called
    assert not wait(pulse, 10).called


def test_a_patient_wait() -> None:
    """A wait that is not eager passes over a beat from before, and hears those that come."""
    clock = Clock()
    pulse = Wakeup(clock)
    pulse.set()
    waiting = wait(pulse, 10, eager=False)
    assert not waiting.called
    pulse.set()
    assert waiting.called


def test_time_that_ran_out_is_no_beat() -> None:
    """After a wait that ended by itself the next one waits."""
    clock = Clock()
    pulse = Wakeup(clock)
    wait(pulse, 1)
    clock.advance(1)
    assert not wait(pulse, 1).called


def test_cancelling() -> None:
    """A wait that is given up leaves no call, and the next beat is kept for the next wait."""
    clock = Clock()
    pulse = Wakeup(clock)
    waiting = wait(pulse, 10)
    waiting.cancel()
    assert isinstance(failure(waiting), CancelledError)
    assert not clock.getDelayedCalls()
    pulse.set()
    assert wait(pulse, 10).called
