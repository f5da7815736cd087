"""Values that are made once, however many ask."""

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from datamover.concurrency.loops import Loops
from datamover.errors import Unavailable
from datamover.monitor.cached import Cached
from datamover.monitor.service import EVERY, LagProbe


class Maker:
    """Makes a value when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Deferred[int]] = []

    async def __call__(self) -> int:
        asked: Deferred[int] = Deferred()
        self.asked.append(asked)
        return await asked


def cached(maker: Maker, clock: Clock) -> Cached[int]:
    return Cached(maker, clock, seconds=5, patience=4, share=0.05)


def asking(value: Cached[int]) -> "Deferred[int | None]":
    return Deferred.fromCoroutine(value.get())


def result(asked: "Deferred[int | None]") -> int | None:
    """Return what a Deferred that has fired fired with."""
    found: list[int | None] = []
    asked.addCallback(found.append)
    assert found, "it has not fired"
    return found[0]


def test_made_once_for_all_who_ask() -> None:
    """All who ask while a value is made, or while it is young, get that one."""
    clock, maker = Clock(), Maker()
    value = cached(maker, clock)
    first, second = asking(value), asking(value)
    assert len(maker.asked) == 1
    maker.asked[0].callback(7)
    assert (result(first), result(second)) == (7, 7)
    clock.advance(4.9)
    assert result(asking(value)) == 7
    assert value.age == pytest.approx(4.9)
    assert len(maker.asked) == 1
    clock.advance(0.2)
    third = asking(value)
    maker.asked[1].callback(8)
    assert result(third) == 8
    assert not clock.getDelayedCalls()


def test_what_is_slow_is_kept_longer() -> None:
    """A value that took two seconds is kept for forty: making it takes a twentieth of the time at most."""
    clock, maker = Clock(), Maker()
    value = cached(maker, clock)
    first = asking(value)
    clock.advance(2)
    maker.asked[0].callback(7)
    assert result(first) == 7
    clock.advance(39)
    assert result(asking(value)) == 7
    clock.advance(2)
    asking(value)
    assert len(maker.asked) == 2
    maker.asked[1].callback(0)


def test_away_is_none_for_a_while() -> None:
    """A value that cannot be made is None, and is not asked for anew by each who asks."""
    clock, maker = Clock(), Maker()
    value = cached(maker, clock)
    first = asking(value)
    maker.asked[0].errback(Unavailable("the database is away"))
    assert result(first) is None
    assert result(asking(value)) is None
    assert len(maker.asked) == 1
    clock.advance(6)
    again = asking(value)
    maker.asked[1].callback(9)
    assert result(again) == 9


def test_patience_ends() -> None:
    """Making that takes too long is cancelled, and the value is None."""
    clock, maker = Clock(), Maker()
    value = cached(maker, clock)
    first = asking(value)
    clock.advance(4)
    assert result(first) is None
    assert not clock.getDelayedCalls()


@pytest_twisted.ensureDeferred
async def test_who_leaves_takes_nothing_along() -> None:
    """One who no longer waits does not end the making for the others."""
    clock, maker = Clock(), Maker()
    value = cached(maker, clock)
    first, second = asking(value), asking(value)
    first.cancel()
    with pytest.raises(CancelledError):
        await first
    maker.asked[0].callback(7)
    assert result(second) == 7


def test_lag() -> None:
    """The probe tells every second how late it was called, on a clock of its own; and ends with the service."""
    clock, lags = Clock(), list[float]()
    behind = 0.0
    probe = LagProbe(clock, lambda: clock.seconds() + behind, lags.append, Loops(clock))
    probe.startService()
    clock.advance(EVERY)
    behind = 0.25
    clock.advance(EVERY)
    behind = 0.0
    clock.advance(EVERY)
    assert lags == [0.0, pytest.approx(0.25), 0.0]
    probe.stopService()
    assert not clock.getDelayedCalls()
