"""A thread pool for blocking calls, and executors over it that keep calls in order.

A call in a thread cannot be stopped. Cancelling a caller only stops its waiting; the call runs to its end, and its
result is discarded. A call that never returns blocks its thread and nothing else: the process ends without it
(``pending`` names such calls). Threads that have been idle for a while end. Every call raises ConnectionLost after
``close``, and where the system starts no thread and none is running.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency.pending import Task, WorkerThread, outcome
from datamover.concurrency.serial import SerialExecutor
from datamover.concurrency.shielding import finish_despite_cancel
from datamover.concurrency.waiters import Waiters
from datamover.errors import ConnectionLost

log = Logger()

P = ParamSpec("P")
T = TypeVar("T")

IDLE = 2.0
"""Seconds without a call after which a thread ends."""


class Threads:
    """At most ``size`` threads, started when first needed. All methods are for the reactor's thread."""

    def __init__(self, reactor: Any, name: str, size: int, niceness: int = 0) -> None:
        """``name`` says what is done in the threads: "destination-archive".

        ``niceness`` is added to their nice(2) value, so that threads with less of it, such as the reactor's, go first.
        """
        self.name = name
        self._reactor = reactor
        self._size = size
        self._niceness = niceness
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._lock = Lock()
        """Makes starting a task and ending an idle thread exclude each other."""
        self._started = 0
        self._unfinished = 0
        self._idle: Waiters[None] = Waiters()
        self._closed = False

    def executor(self) -> SerialExecutor:
        """Return an executor that makes its calls in these threads, one at a time, in order."""
        return SerialExecutor(self._call, self._reactor.callFromThread)

    def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call in a thread. Cancelling only stops the waiting."""
        return self.run_or_discard(_nothing, call, *args, **kwargs)

    def run_or_discard(
        self, discard: Callable[[T], object], call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[T]:
        """Call in a thread. Cancelling stops the waiting; the result then goes to ``discard``, in a thread too."""
        answer: Deferred[T] = Deferred()

        def end(result: "T | Failure") -> None:
            if not answer.called:
                answer.callback(result)
            elif discard is not _nothing and not isinstance(result, Failure):
                self.submit(discard, result).addErrback(_tell_discard)

        try:
            self.submit(call, *args, **kwargs).addBoth(end)
        except ConnectionLost:
            answer.errback()
        return answer

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call in a thread; the Deferred must not be cancelled. What ``run`` reports by its Deferred is raised."""
        return self._ask(partial(call, *args, **kwargs))[0]

    async def finish(
        self, discard: Callable[[T], object], call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call in a thread and wait for its end, even if cancelled, so that its effects are never still to come.

        If cancelled, a call that no thread has begun is not made; the result of one that was begun goes to
        ``discard``, in a thread too. Then CancelledError is raised.
        """

        def dispose(result: T) -> None:
            self.submit(discard, result).addErrback(_tell_discard)

        answer, withdraw = self._ask(partial(call, *args, **kwargs))
        return await finish_despite_cancel(answer, dispose, withdraw)

    async def finish_hurried(
        self, hurry: Callable[[], object], call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Like ``finish``, for a call whose result needs no disposal; cancelling calls ``hurry``, to end it soon."""
        answer, withdraw = self._ask(partial(call, *args, **kwargs))

        def end() -> None:
            withdraw()
            hurry()

        return await finish_despite_cancel(answer, hurry=end)

    async def close(self) -> None:
        """Stop the threads; completes when every call has ended. May be called more than once."""
        while self._unfinished:
            await self._idle.wait()
        self._closed = True
        with self._lock:
            for _ in range(self._started):
                self._tasks.put(None)

    def _ask(self, call: Callable[[], T]) -> tuple[Deferred[T], Callable[[], None]]:
        """Submit a call; return its result, and the function that withdraws it unless it has begun."""
        answer: Deferred[T] = Deferred()
        begun = Lock()

        def work() -> None:
            if not begun.acquire(blocking=False):
                return
            self._reactor.callFromThread(answer.callback, outcome(call))

        def withdraw() -> None:
            if begun.acquire(blocking=False):
                answer.errback(CancelledError())

        self._begin(work)
        return answer.addBoth(self._finished), withdraw

    def _call(self, task: Task) -> None:
        def counted() -> None:
            task()
            self._reactor.callFromThread(self._finished, None)

        self._begin(counted)

    def _begin(self, task: Task) -> None:
        if self._closed:
            raise ConnectionLost(f"{self.name} was closed while it was in use; the service is stopping")
        with self._lock:
            if self._started < min(self._unfinished + 1, self._size):
                self._start()
            self._unfinished += 1
            self._tasks.put(task)

    def _start(self) -> None:
        try:
            WorkerThread(self.name, self._take, self._niceness).start()
        except RuntimeError as error:  # The system's limit of threads is reached: the existing ones go on.
            if not self._started:
                reason = "the system starts no thread: raise its limit of them (TasksMax=, ulimit -u)"
                raise ConnectionLost(f"{self.name}: {reason}") from error
        else:
            self._started += 1

    def _take(self) -> Task | None:
        """Wait for a task; return None if the calling thread is to end. Runs in that thread."""
        with suppress(Empty):
            return self._tasks.get(timeout=IDLE)
        with self._lock:
            try:
                return self._tasks.get_nowait()
            except Empty:
                self._started -= 1
                return None

    def _finished(self, result: T) -> T:
        self._unfinished -= 1
        if self._idle and not self._unfinished:
            # One turn later: the result may make its receiver submit a further call (a close, a discard).
            self._reactor.callLater(0, self._tell_idle)
        return result

    def _tell_idle(self) -> None:
        if not self._unfinished:
            self._idle.wake(None)


def _nothing(_: object) -> None:
    """Discard nothing."""


def _tell_discard(failure: Failure) -> None:
    log.warn("the result of a cancelled call could not be discarded: {error}", error=failure.value)
