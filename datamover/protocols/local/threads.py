"""Blocking calls off the reactor: a few threads of one owner, and lanes in which calls keep their order.

A call in a thread cannot be stopped. Cancelling who waits for it lets go of the answer; the call runs to its end, and
what it made and nobody wants is disposed of. A ``Lane`` runs its calls one after another, so that a file descriptor
closed in its lane is never closed under a call that uses it.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from datamover.errors import ConnectionLost
from datamover.finishing import to_its_end

log = Logger()

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """At most ``size`` threads, started when first needed."""

    def __init__(self, reactor: Any, name: str, size: int) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=size, name=name)
        self._unfinished = 0
        self._idle: list[Deferred[None]] = []
        self._closed = False

    def lane(self) -> "Lane":
        return Lane(self)

    def run(
        self, discard: Callable[[T], object], call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[T]:
        """Call in a thread. Cancelling answers at once; the call's result then goes to ``discard``, in a thread too."""
        return self.lane().run_or_discard(discard, call, *args, **kwargs)

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call in a thread; the Deferred must not be cancelled. Raises ConnectionLost after ``close``."""
        if self._closed:
            raise ConnectionLost(f"{self._pool.name} was closed while it was in use; the service is stopping")
        if not self._pool.started:
            self._pool.start()
        self._unfinished += 1
        return deferToThreadPool(self._reactor, self._pool, call, *args, **kwargs).addBoth(self._finished)

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


class Lane:
    """Calls in threads, one at a time, in the order in which they were asked for."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._tail: Deferred[None] = succeed(None)

    def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call in a thread after the calls before it. Cancelling lets go of the answer alone."""
        return self.run_or_discard(_nothing, call, *args, **kwargs)

    def run_or_discard(
        self, discard: Callable[[T], object], call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[T]:
        """Call in a thread after the calls before it; a result that nobody waits for goes to ``discard``."""
        answer: Deferred[T] = Deferred()

        def deliver(result: T) -> None:
            if not answer.called:
                answer.callback(result)
            elif discard is not _nothing:
                self._threads.submit(discard, result).addErrback(_tell_discard)

        def fail(failure: Failure) -> None:
            if not answer.called:
                answer.errback(failure)

        self._tail.addCallback(lambda _: self._threads.submit(call, *args, **kwargs)).addCallbacks(deliver, fail)
        return answer


def _nothing(_: object) -> None:
    """Nothing is to be disposed of."""


def _tell_discard(failure: Failure) -> None:
    log.warn("what a cancelled call had opened could not be closed: {error}", error=failure.value)
