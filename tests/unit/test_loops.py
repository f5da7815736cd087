"""Loops that go on whatever breaks them, and what is told of those that do not turn."""

from collections.abc import Awaitable, Callable, Iterator

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure

from datamover.concurrency.loops import BOUND, LOOPS, PAUSES, Loop, Loops
from datamover.errors import Unavailable


class Turning:
    """A loop of the test's, which breaks when it is told to."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.failed: list[str] = []
        self.loops = Loops(self.clock, self.failed.append)
        self.loop = self.loops.loop("claims")
        self.errors: Iterator[Exception | None] = iter(())
        self.begun = 0
        self.turns = 0

    async def run(self) -> None:
        self.begun += 1
        while True:
            error = next(self.errors, None)
            if error is not None:
                raise error
            self.turns += 1
            self.loop.turned()
            await deferLater(self.clock, 1.0)


@pytest.fixture
def turning() -> Iterator[Turning]:
    turning = Turning()
    yield turning
    turning.loop.stop()
    assert not turning.clock.getDelayedCalls()


def test_goes_on(turning: Turning) -> None:
    """An unexpected error is logged with its traceback, counted by the loop's name, and the loop goes on."""
    turning.errors = iter([None, RuntimeError("nobody foresaw this")])
    with capturedLogs() as told:
        turning.loop.start(turning.run)
        turning.clock.advance(1.0)
        assert turning.loops.troubles == ("taking work from the queue (claims) failed, and has not succeeded since",)
        turning.clock.advance(PAUSES[0])
    [event] = [event for event in told if event["log_level"] is LogLevel.critical]
    assert "nobody foresaw this" in event["log_failure"].getTraceback()
    assert turning.failed == ["claims"]
    assert (turning.begun, turning.turns) == (2, 2)
    assert not turning.loops.troubles


def test_pauses(turning: Turning) -> None:
    """The pauses grow up to a bound; a turn that goes well begins them anew."""
    turning.errors = iter([RuntimeError()] * (len(PAUSES) + 1))
    turning.loop.start(turning.run)
    for count, pause in enumerate((*PAUSES, PAUSES[-1]), 1):
        assert turning.begun == count
        turning.clock.advance(pause * 0.9)
        assert turning.begun == count
        turning.clock.advance(pause * 0.1 + 1e-6)
    assert turning.turns == 1
    turning.errors = iter([RuntimeError()])
    turning.clock.advance(1.0)
    begun = turning.begun
    turning.clock.advance(PAUSES[0])
    assert turning.begun == begun + 1


def test_the_database_is_away(turning: Turning) -> None:
    """Unavailable is expected: the loop tries again, and neither counts it nor reports trouble."""
    turning.errors = iter([Unavailable("the database is away")])
    turning.loop.start(turning.run)
    assert not turning.loops.troubles
    turning.clock.advance(PAUSES[0])
    assert (turning.begun, turning.failed) == (2, [])


def test_stopping(turning: Turning) -> None:
    """A loop that is stopped ends, whether it turns or rests, and nothing is told of it any more."""
    for errors in ([], [RuntimeError()]):
        loop = turning.loop = turning.loops.loop("claims")
        turning.errors = iter(errors)
        over: list[object] = []
        loop.start(turning.run).addBoth(over.append)
        loop.stop().addBoth(over.append)
        assert over == [None, None]
        assert not turning.loops.troubles
        assert not turning.clock.getDelayedCalls()


def test_hurrying(turning: Turning) -> None:
    """A loop that rests is begun anew at once where its end is waited for."""
    turning.errors = iter([RuntimeError()])
    turning.loop.start(turning.run)
    turning.loop.hurry()
    assert turning.turns == 1
    turning.loop.hurry()
    assert turning.begun == 2


def test_an_end_that_nobody_asked_for(turning: Turning) -> None:
    """A cancellation from within, as of something that was waited for, is a failure and does not end the loop."""
    turning.errors = iter([CancelledError()])
    turning.loop.start(turning.run)
    turning.clock.advance(PAUSES[0])
    assert (turning.begun, turning.failed) == (2, ["claims"])


def test_cancelling(turning: Turning) -> None:
    """Cancelling what ``start`` returned stops the loop."""
    turning.loop.start(turning.run).cancel()
    assert turning.loop.ended


@pytest.mark.parametrize("deaf", [False, True])
def test_stuck(turning: Turning, deaf: bool) -> None:
    """A loop that does not turn within its bound is cancelled and begins again; one that ignores that is reported."""
    begun = []

    async def run() -> None:
        begun.append(turning.clock.seconds())
        while len(begun) == 1:
            try:
                await Deferred()
            except CancelledError:
                if not deaf:
                    raise
        turning.loop.turned()
        await Deferred()

    turning.loop.start(run)
    turning.clock.advance(BOUND - 0.1)
    assert not turning.loops.stuck
    turning.clock.advance(0.2)
    assert turning.loops.stuck
    assert turning.loops.troubles == (f"taking work from the queue (claims) has not turned for {BOUND:.0f} s",)
    turning.clock.advance(PAUSES[0])
    assert turning.loops.stuck is deaf
    assert len(begun) == (1 if deaf else 2)
    turning.clock.advance(BOUND * 0.9)
    assert turning.loops.stuck is deaf


def test_waits_for_as_long_as_it_takes() -> None:
    """A loop without a bound is never stuck."""
    clock = Clock()
    loops = Loops(clock)
    loop = loops.loop("listener", bound=None)
    loop.start(Deferred)
    clock.advance(10 * BOUND)
    assert not loops.stuck
    assert not loops.troubles
    loop.stop()


def stepping(loop: Loop, call: Callable[[], Awaitable[str]]) -> str:
    """Return the result of a step."""
    found: list[str] = []
    Deferred.fromCoroutine(loop.step(call, "otherwise")).addCallback(found.append)
    return found[0]


def test_steps() -> None:
    """A step that fails delays no other step, pauses, and is reported until it succeeds."""
    clock, failed = Clock(), list[str]()
    loops = Loops(clock, failed.append)
    loop = loops.loop("changes")
    outcomes: Iterator[Exception | str] = iter([RuntimeError(), Unavailable("away"), "well"])

    async def call() -> str:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert stepping(loop, call) == "otherwise"
    assert stepping(loop, call) == "otherwise"  # It rests.
    what = "bringing changes to the files of jobs, and ending what is overdue (changes)"
    assert loops.troubles == (f"{what} failed, and has not succeeded since",)
    clock.advance(PAUSES[0])
    assert stepping(loop, call) == "otherwise"  # The database is away.
    assert loops.troubles
    assert stepping(loop, call) == "well"
    assert not loops.troubles
    assert failed == ["changes"]


def test_what_is_refused_is_counted() -> None:
    """An item that the database refuses is logged in words and counted under the loop, which goes on without it."""
    failed = list[str]()
    loops = Loops(Clock(), failed.append)
    with capturedLogs() as told:
        loops.refused("progress", "the progress of transfer 7", Failure(ValueError("too large")))  # type: ignore[no-untyped-call]
    assert failed == ["progress"]
    assert not loops.troubles
    assert told[0]["what"] == "the progress of transfer 7"


def test_every_loop_has_words() -> None:
    """What a loop is for is said without a capital and without an end, to stand in a sentence."""
    for name, what in LOOPS.items():
        assert name == name.lower()
        assert what[0].islower()
        assert not what.endswith(".")
