"""The end of a process: one deadline for all its parts, and what hangs is left behind."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import provider

from datamover.app.services import HURRY, Ordered
from datamover.concurrency.stopping import Deadline, StoppableService


class Hanging(StoppableService):
    """A part that takes so long to stop, on a clock; None: for ever."""

    def __init__(self, clock: Clock, what: str, takes: float | None, needs: float = 0.0) -> None:
        self.what = what
        self.needs = needs
        self.given = 0.0
        self.stopped_at: float | None = None
        self._clock = clock
        self._takes = takes

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        super().stopService()  # type: ignore[no-untyped-call]
        self.given = self.deadline.left
        stopped: Deferred[None] = Deferred()
        if self._takes is not None:
            self._clock.callLater(self._takes, stopped.callback, None)
        return stopped.addCallback(self._note)

    def _note(self, _: None) -> None:
        self.stopped_at = self._clock.seconds()


@pytest.fixture
def told() -> Iterator[list[str]]:
    lines: list[str] = []

    @provider(ILogObserver)
    def observer(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observer)
    yield lines
    globalLogPublisher.removeObserver(observer)


def stop(clock: Clock, *parts: Hanging, seconds: float = 20.0) -> "Deferred[None]":
    """Stop parts that were started in this order."""
    tree = Ordered(clock, seconds=seconds)
    for part in parts:
        part.setServiceParent(tree)  # type: ignore[no-untyped-call]
    return tree.stopService()


def test_in_turn() -> None:
    """Parts stop one after the other, the last first, and the stop has ended as soon as all have."""
    clock = Clock()
    parts = [Hanging(clock, name, 1.0) for name in ("first", "second", "third")]
    stopped = stop(clock, *parts)
    clock.pump([0.5] * 5)
    assert not stopped.called
    clock.advance(0.5)
    assert stopped.called
    assert [part.stopped_at for part in parts] == [3.0, 2.0, 1.0]
    assert not clock.getDelayedCalls()


def test_what_hangs_leaves_the_others_their_time(told: list[str]) -> None:
    """A part that does not stop is told and left; those after it have at least what they need, all of one deadline."""
    clock = Clock()
    parts = [Hanging(clock, "first", 1.0, 2.0), Hanging(clock, "second", None, 3.0), Hanging(clock, "third", None, 4.0)]
    stopped = stop(clock, *parts)
    clock.pump([0.5] * 100)
    assert stopped.called
    first, second, third = parts
    assert third.given == pytest.approx(20 - 5 - HURRY)
    assert second.given == pytest.approx(3.0 - HURRY)
    assert first.given == pytest.approx(2.0 - HURRY)
    assert first.stopped_at is not None
    assert first.stopped_at <= 20.0
    assert [line for line in told if "not stopped in time" in line] == [
        f"{what}: not stopped in time, and no longer waited for" for what in ("third", "second")
    ]


def test_all_hang() -> None:
    """A stop in which every part hangs is over at its deadline."""
    clock = Clock()
    stopped = stop(clock, *(Hanging(clock, str(number), None, 1.0) for number in range(10)))
    clock.pump([0.5] * 39)
    assert not stopped.called
    clock.advance(0.5)
    assert stopped.called


def test_what_fails_is_told(told: list[str]) -> None:
    """A part that fails to stop is told with what it met, and the others are stopped."""

    class Failing(Hanging):
        def stopService(self) -> Any:  # noqa: N802
            raise ZeroDivisionError

    clock = Clock()
    first = Hanging(clock, "first", 0.0)
    stopped = stop(clock, first, Failing(clock, "second", None))
    clock.advance(0)
    assert stopped.called
    assert first.stopped_at == 0.0
    assert "second: stopping failed" in told


def test_cancelled_when_late() -> None:
    """What has not ended by a deadline is cancelled, and whatever it makes of that is not waited for."""
    clock = Clock()
    cancelled: list[object] = []
    doing: Deferred[None] = Deferred(cancelled.append)
    ended = Deferred.fromCoroutine(Deadline(clock, 3.0).earlier(1.0).ends(doing, "it"))
    clock.advance(1.9)
    assert not cancelled
    clock.advance(0.1)
    assert cancelled == [doing]
    assert ended.result is False


def test_never() -> None:
    """Without a deadline it is waited for as long as it takes."""
    doing: Deferred[None] = Deferred()
    ended = Deferred.fromCoroutine(Deadline().earlier(1.0).ends(doing, "it"))
    assert not ended.called
    doing.callback(None)
    assert ended.result is True


@pytest.mark.parametrize(
    ("hangs", "status", "longest"),
    [
        ("time.sleep(60)", 0, 4.0),
        # Python's own locks are held all the while.
        ("re.match('(a+)+$', 'a' * 60 + 'b')", -signal.SIGALRM, 6.0),
    ],
)
def test_by_force(hangs: str, status: int, longest: float) -> None:
    """A process that was asked to end does so though its main thread stands still, or all of Python."""
    program = f"""
import re, time
from datamover.concurrency import stopping
stopping.MARGIN = 1.0
stopping.end_within(0.5)
print("asked", flush=True)
{hangs}
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"asked\n"
        began = time.monotonic()
        assert process.wait(60) == status
        assert time.monotonic() - began < longest + 20
