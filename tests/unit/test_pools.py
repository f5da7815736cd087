"""The thread pools of one process: calls that hang in one of them delay no other."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred, gatherResults

from datamover.concurrency.pending import pending
from datamover.concurrency.pools import NICENESS, Pools
from datamover.concurrency.threads import Threads
from datamover.engine.transfer.digest import Digest

KINDS = ("archives", "datasets", "digests", "staging")
MANY = 50


class Hanging:
    """Calls that do not return until they are let go."""

    def __init__(self) -> None:
        self._go = threading.Event()
        self.begun = threading.Semaphore(0)

    def hang(self) -> None:
        self.begun.release()
        assert self._go.wait(60)

    def go(self) -> None:
        self._go.set()


@contextmanager
def hanging() -> Iterator[Hanging]:
    calls = Hanging()
    try:
        yield calls
    finally:
        calls.go()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("filled", KINDS)
async def test_one_kind_hangs(filled: str) -> None:
    """Where every call of one kind hangs, and many wait behind them, those of all other kinds are made."""
    pools = Pools(reactor)
    with hanging() as calls:
        threads: Threads = getattr(pools, filled)
        stuck = [threads.run(calls.hang) for _ in range(MANY)]
        for other in KINDS:
            if other != filled:
                assert await gatherResults([getattr(pools, other).run(int, "7") for _ in range(MANY)]) == [7] * MANY
        assert not any(one.called for one in stuck)
    await gatherResults(stuck)
    await pools.close()


@pytest_twisted.ensureDeferred
async def test_all_kinds_hang() -> None:
    """Where all of them hang, digests of little and what others have threads of their own for go on."""
    pools = Pools(reactor)
    other = Threads(reactor, "other", 1)
    with hanging() as calls:
        stuck = [getattr(pools, kind).run(calls.hang) for kind in KINDS for _ in range(MANY)]
        assert await other.run(int, "7") == 7
        digest = Digest(pools.digests.executor)
        await digest.add(b"a little")
        assert len((await digest.hexdigests())["sha256"]) == 64
    await gatherResults(stuck)
    await pools.close()


@pytest_twisted.ensureDeferred
async def test_what_hangs_is_told() -> None:
    """``pending`` tells of each call that a thread makes: the pool, the function and the time."""
    threads, executor = Threads(reactor, "destination-archive", 2), None
    with hanging() as calls:
        executor = threads.executor()
        stuck = [threads.run(calls.hang), executor.run(calls.hang)]
        for _ in stuck:
            assert calls.begun.acquire(timeout=10)
        await task.deferLater(reactor, 0.05)
        told = [each for each in pending() if each.threads == "destination-archive"]
        assert [each.call for each in told] == ["Hanging.hang"] * 2
        assert all(0.05 <= each.seconds < 10 for each in told)
    await gatherResults(stuck)
    assert "pending_here" in await executor.run(pending_here)
    await threads.close()
    assert not [each for each in pending() if each.threads == "destination-archive"]


def pending_here() -> list[str]:
    return [each.call for each in pending() if each.threads == "destination-archive"]


@pytest_twisted.ensureDeferred
async def test_a_call_that_was_not_begun_is_withdrawn() -> None:
    """Cancelling a call that waits for a thread ends at once, and the call is never made."""
    threads = Threads(reactor, "test", 1)
    made: list[int] = []
    with hanging() as calls:
        stuck = threads.run(calls.hang)
        waiting = Deferred.fromCoroutine(threads.finish(made.remove, made.append, 1))
        hurried = Deferred.fromCoroutine(threads.finish_hurried(calls.go, made.append, 2))
        waiting.addErrback(lambda failure: made.append(-1))
        hurried.addErrback(lambda failure: made.append(-2))
        waiting.cancel()
        assert made == [-1]
        hurried.cancel()
        assert made == [-1, -2]
        await stuck
    await threads.close()
    assert made == [-1, -2]


@pytest_twisted.ensureDeferred
async def test_a_call_that_was_begun_is_hurried() -> None:
    """Cancelling a call that is being made hurries it, and waits for its end."""
    threads = Threads(reactor, "test", 1)
    calls = Hanging()
    running: Deferred[Any] = Deferred.fromCoroutine(threads.finish_hurried(calls.go, calls.hang))
    ended: list[object] = []
    running.addErrback(ended.append)
    assert calls.begun.acquire(timeout=10)
    running.cancel()
    assert not ended
    await threads.close()
    assert len(ended) == 1


@pytest_twisted.ensureDeferred
async def test_idle_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that have had nothing to do for a while end; the next call has one again."""
    monkeypatch.setattr("datamover.concurrency.threads.IDLE", 0.02)
    threads = Threads(reactor, "idle", 4)
    for _ in range(3):
        assert await gatherResults([threads.run(int, "7") for _ in range(8)]) == [7] * 8
        for _ in range(500):
            if not [each for each in threading.enumerate() if each.name == "idle"]:
                break
            await task.deferLater(reactor, 0.01)
        assert not [each for each in threading.enumerate() if each.name == "idle"]
    await threads.close()


def test_a_process_ends_without_them() -> None:
    """A process whose work is done ends, though threads of its own do not come back."""
    program = """
import time
from twisted.internet import reactor
from datamover.concurrency.threads import Threads
threads = Threads(reactor, "test", 2)
for _ in range(5):
    threads.submit(time.sleep, 600)
reactor.callLater(0.1, reactor.stop)
reactor.run()
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 0


@pytest_twisted.ensureDeferred
async def test_what_computes_stands_back() -> None:
    """Threads that compute have less of a processor than those that answer, and so does nobody else."""
    pools = Pools(reactor)
    usual = os.getpriority(os.PRIO_PROCESS, 0)

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) - usual

    found = {kind: await getattr(pools, kind).run(niceness) for kind in KINDS}
    assert found == {"archives": NICENESS, "datasets": 0, "digests": NICENESS, "staging": 0}
    assert os.getpriority(os.PRIO_PROCESS, 0) == usual
    await pools.close()
