"""Calls in threads: executors, and threads that end."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults

from datamover.concurrency.serial import TURNS, SerialExecutor
from datamover.concurrency.threads import Threads
from datamover.errors import ConnectionLost
from tests.unit.executors import Later
from tests.unit.outcomes import failure


def test_a_call_follows_the_other_without_the_reactor() -> None:
    """The thread that made a call makes the next one, before the reactor has heard of the first."""
    spawned: list[Callable[[], None]] = []
    told: list[tuple[Any, ...]] = []
    executor = SerialExecutor(spawned.append, lambda *call: told.append(call))
    made: list[str] = []
    for name in "abc":
        executor.run(made.append, name)
    assert len(spawned) == 1

    spawned.pop()()
    assert made == ["a", "b", "c"]
    assert len(told) == 3
    executor.run(made.append, "d")
    assert len(spawned) == 1


def test_other_work_has_its_turn() -> None:
    """An executor that always has calls leaves its thread to others now and then."""
    thread = Later()
    answers = [thread.executor.run(int) for _ in range(TURNS + 1)]
    thread.waiting.pop()()
    assert [answer.called for answer in answers] == [True] * TURNS + [False]
    thread.work()
    assert answers[-1].called


def test_what_fails_holds_up_nothing() -> None:
    """The caller gets what a call raised; the next call is made all the same."""
    thread = Later()
    failing, next_one = thread.executor.run(int, "x"), thread.executor.run(int, "1")
    thread.work()
    assert isinstance(failure(failing), ValueError)
    assert next_one.result == 1


def test_cancelling_lets_go_of_the_answer() -> None:
    """What was asked for is done, in its order, whether or not somebody still waits for it."""
    thread = Later()
    made: list[str] = []
    dropped, kept = thread.executor.run(made.append, "a"), thread.executor.run(made.append, "b")
    dropped.cancel()
    assert isinstance(failure(dropped), CancelledError)
    thread.work()
    assert made == ["a", "b"]
    assert kept.called


@pytest_twisted.ensureDeferred
async def test_order_in_real_threads() -> None:
    """However many executors share a few threads, each makes its calls in their order, one at a time."""
    threads = Threads(reactor, "test", 3)
    executors = [threads.executor() for _ in range(8)]
    made: list[list[int]] = [[] for _ in executors]
    inside = [threading.Lock() for _ in executors]

    def call(executor: int, number: int) -> None:
        assert inside[executor].acquire(blocking=False)
        made[executor].append(number)
        inside[executor].release()

    answers = [
        executor.run(call, index, number) for number in range(5 * TURNS) for index, executor in enumerate(executors)
    ]
    await gatherResults(answers, consumeErrors=True)
    assert made == [list(range(5 * TURNS))] * len(executors)
    await threads.close()


@pytest_twisted.ensureDeferred
async def test_closing() -> None:
    """Calls that were submitted are made before the threads end; later ones raise ConnectionLost."""
    threads = Threads(reactor, "test", 2)
    executor = threads.executor()
    made: list[int] = []
    for number in range(2 * TURNS):
        executor.run(made.append, number).addErrback(lambda _: None).cancel()
    await threads.close()
    assert made == list(range(2 * TURNS))
    for again in (threads.run, executor.run, threads.executor().run):
        with pytest.raises(ConnectionLost):
            await again(made.append, 0)


@pytest_twisted.ensureDeferred
async def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system starts no thread, each call says so; once it does, the same pool and executor make calls again."""
    threads = Threads(reactor, "test", 2)
    executor = threads.executor()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", refuse)
        for run in (threads.run, executor.run, executor.run):
            with pytest.raises(ConnectionLost, match="the system starts no thread"):
                await run(int, "1")
    assert [await threads.run(int, "2"), await executor.run(int, "3")] == [2, 3]
    await threads.close()
