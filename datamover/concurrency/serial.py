"""An executor that makes blocking calls in threads, one at a time, in order."""

from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from datamover.concurrency.pending import outcome
from datamover.errors import ConnectionLost

P = ParamSpec("P")
T = TypeVar("T")

TURNS = 16
"""Calls that an executor makes in a row before other work of its pool goes first."""


class SerialExecutor:
    """Makes calls in threads of a pool, one at a time, in the order in which they were submitted.

    So a file descriptor that is closed through it is never closed under a call that uses it. The thread goes on to the
    next call by itself, without waiting for the reactor, which may be busy.
    """

    def __init__(self, call_in_thread: Callable[[Callable[[], None]], Any], tell: Callable[..., Any]) -> None:
        """The two are like a reactor's ``callInThread`` and ``callFromThread``; the first may raise ConnectionLost."""
        self._call_in_thread = call_in_thread
        self._tell = tell
        self._calls: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()
        """The calls that wait, each with the function that takes its result in the reactor's thread."""
        self._lock = Lock()
        self._working = False
        """Whether a thread makes the calls, or has been asked to."""

    def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call in a thread after the earlier calls. Cancelling stops the waiting; the call is made all the same."""
        answer: Deferred[T] = Deferred()

        def end(result: "T | Failure") -> None:
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
        """Make the calls that wait. Runs in a thread."""
        for _ in range(TURNS):
            call, end = self._calls.popleft()
            self._tell(end, outcome(call))
            with self._lock:
                self._working = bool(self._calls)
                if not self._working:
                    return
        self._tell(self._begin)
