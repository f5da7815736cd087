"""Several coroutines at a time."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred

from datamover.concurrency.gather import gather
from tests.unit.outcomes import failure


class Work:
    """Calls that wait to be told how to end."""

    def __init__(self) -> None:
        self.running: dict[int, Deferred[Any]] = {}
        self.cancelled: list[int] = []

    def call(self, number: int) -> Callable[[], Coroutine[Any, Any, str]]:
        async def run() -> str:
            self.running[number] = Deferred()
            try:
                return f"{number}{await self.running[number]}"
            except CancelledError:
                self.cancelled.append(number)
                raise
            finally:
                del self.running[number]

        return run

    def calls(self, count: int) -> list[Callable[[], Coroutine[Any, Any, str]]]:
        return [self.call(number) for number in range(count)]


def test_a_few_at_a_time_in_order() -> None:
    """No more than asked for run at once, and the results come in the order of the calls."""
    work = Work()
    gathered = Deferred.fromCoroutine(gather(work.calls(4), 2))
    assert sorted(work.running) == [0, 1]
    work.running[1].callback("!")
    assert sorted(work.running) == [0, 2]
    work.running[2].callback("!")
    work.running[3].callback("!")
    assert not gathered.called
    work.running[0].callback("!")
    assert gathered.result == ["0!", "1!", "2!", "3!"]


@pytest_twisted.ensureDeferred
async def test_nothing_to_do() -> None:
    """No calls give no results."""
    assert await gather([], 4) == []


def test_the_first_error_ends_the_others() -> None:
    """The others are cancelled, those that wait never begin, and the error comes as it was."""
    work = Work()
    gathered = Deferred.fromCoroutine(gather(work.calls(5), 3))
    work.running[1].errback(ValueError("broken"))
    assert sorted(work.cancelled) == [0, 2]
    assert not work.running
    assert str(failure(gathered)) == "broken"


def test_an_error_waits_for_the_others_to_be_gone() -> None:
    """The error is raised only when nothing of the others runs any more."""
    leaving: Deferred[None] = Deferred()

    async def slow() -> None:
        try:
            await Deferred()
        finally:
            await leaving

    work = Work()
    gathered = Deferred.fromCoroutine(gather([slow, work.call(1)], 2))
    work.running[1].errback(ValueError("broken"))
    assert not gathered.called
    leaving.callback(None)
    assert str(failure(gathered)) == "broken"


def test_cancelling_cancels_all() -> None:
    """Giving up ends what runs and begins nothing more."""
    work = Work()
    gathered = Deferred.fromCoroutine(gather(work.calls(3), 2))
    gathered.cancel()
    assert sorted(work.cancelled) == [0, 1]
    assert not work.running
    assert isinstance(failure(gathered), CancelledError)
