"""Blocking calls off the reactor: a few threads of one owner, and lanes in which calls keep their order.

A call in a thread cannot be stopped. Cancelling who waits for it lets go of the answer; the call runs to its end, and
what it made and nobody wants is disposed of.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from datamover.errors import ConnectionLost
from datamover.finishing import to_its_end

log = Logger()

P = ParamSpec("P")
T = TypeVar("T")

Offload = Callable[..., "Deferred[Any]"]
"""Calls a function with arguments in a thread; the Deferred, which must not be cancelled, has its result."""

TURNS = 16
"""Calls that a lane makes before it lets other work of its threads go first."""


class Threads:
    """At most ``size`` threads, started when first needed."""

    def __init__(self, reactor: Any, name: str, size: int) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=size, name=name)
        self._unfinished = 0
        self._idle: list[Deferred[None]] = []
        self._closed = False

    def lane(self) -> "Lane":
        return Lane(self._call, self._reactor.callFromThread)

    def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call in a thread. Cancelling lets go of the answer alone."""
        return self.run_or_discard(_nothing, call, *args, **kwargs)

    def run_or_discard(
        self, discard: Callable[[T], object], call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[T]:
        """Call in a thread. Cancelling answers at once; the call's result then goes to ``discard``, in a thread too."""
        answer: Deferred[T] = Deferred()

        def end(result: T | Failure) -> None:
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
        """Call in a thread; the Deferred must not be cancelled. Raises ConnectionLost after ``close``."""
        self._begin()
        return deferToThreadPool(self._reactor, self._pool, call, *args, **kwargs).addBoth(self._finished)

    async def finish(
        self, discard: Callable[[T], object], call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call in a thread and wait for its end, also when cancelled: what the call does is then done, not to come.

        The result of a cancelled call goes to ``discard``, in a thread too, before CancelledError is raised.
        """

        def dispose(result: T) -> None:
            self.submit(discard, result).addErrback(_tell_discard)

        return await to_its_end(self.submit(call, *args, **kwargs), dispose)

    async def close(self) -> None:
        """End the threads; completes when every call has run to its end. May be called more than once."""
        while self._unfinished:
            waiter: Deferred[None] = Deferred()
            self._idle.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._idle:
                    self._idle.remove(waiter)
        if not self._closed:
            self._closed = True
            if self._pool.started:
                self._pool.stop()

    def _call(self, work: Callable[[], None]) -> None:
        """Call in a thread what raises nothing and tells by itself what came of it."""
        self._begin()

        def counted() -> None:
            work()
            self._reactor.callFromThread(self._finished, None)

        self._pool.callInThread(counted)

    def _begin(self) -> None:
        if self._closed:
            raise ConnectionLost(f"{self._pool.name} was closed while it was in use; the service is stopping")
        if not self._pool.started:
            self._pool.start()
        self._unfinished += 1

    def _finished(self, result: T) -> T:
        self._unfinished -= 1
        if self._idle and not self._unfinished:
            # A turn later, for what this result makes its owner submit (a close, a discard).
            self._reactor.callLater(0, self._tell_idle)
        return result

    def _tell_idle(self) -> None:
        if not self._unfinished:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)


class Lane:
    """Calls in threads, one at a time, in the order in which they were asked for.

    So a file descriptor closed in its lane is never closed under a call that uses it. The thread goes from one call to
    the next without the reactor: who asks for a call ahead never has it wait for a turn of what may be busy.
    """

    def __init__(self, call_in_thread: Callable[[Callable[[], None]], Any], tell: Callable[..., Any]) -> None:
        """Use the two as a reactor's ``callInThread`` and ``callFromThread``; the former may raise ConnectionLost."""
        self._call_in_thread = call_in_thread
        self._tell = tell
        self._calls: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()
        """What is called, and who is told in the reactor's thread."""
        self._lock = Lock()
        self._working = False
        """Whether a thread has the lane, or will have it."""

    def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call in a thread after the calls before it. Cancelling lets go of the answer alone."""
        answer: Deferred[T] = Deferred()

        def end(result: T | Failure) -> None:
            if not answer.called:
                answer.callback(result)

        with self._lock:
            self._calls.append((partial(call, *args, **kwargs), end))
            begins, self._working = not self._working, True
        if begins:
            self._begin()
        return answer

    def _begin(self) -> None:
        try:
            self._call_in_thread(self._work)
        except ConnectionLost:
            self._working = False
            while self._calls:
                self._calls.popleft()[1](Failure())  # type: ignore[no-untyped-call]

    def _work(self) -> None:
        """Make the calls that wait; in a thread."""
        for _ in range(TURNS):
            call, end = self._calls.popleft()
            try:
                result = call()
            except BaseException:
                result = Failure()  # type: ignore[no-untyped-call]
            self._tell(end, result)
            with self._lock:
                self._working = bool(self._calls)
                if not self._working:
                    return
        self._tell(self._begin)


def _nothing(_: object) -> None:
    """Nothing is to be disposed of."""


def _tell_discard(failure: Failure) -> None:
    log.warn("what a cancelled call had opened could not be closed: {error}", error=failure.value)
