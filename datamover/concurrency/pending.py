"""The calls that the threads of this process are making, and for how long, so that the log can name one that hangs."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Thread, current_thread, get_native_id
from threading import enumerate as every_thread
from time import monotonic
from typing import Any, TypeVar

from twisted.python.failure import Failure

T = TypeVar("T")

Task = Callable[[], None]
"""What a thread runs: raises nothing, makes its calls by ``outcome``, and reports their results by itself."""


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that a thread is making."""

    threads: str
    """The name of the pool that the thread belongs to."""
    call: str
    """The name of the function."""
    seconds: float
    """Seconds since the call began."""


def pending() -> list[PendingCall]:
    """Return the calls that all threads of this process are making, the longest first."""
    now = monotonic()
    found = [(one.owner, one.doing) for one in every_thread() if isinstance(one, WorkerThread)]
    calls = [PendingCall(owner, _name(doing[0]), now - doing[1]) for owner, doing in found if doing is not None]
    return sorted(calls, key=lambda each: -each.seconds)


class WorkerThread(Thread):
    """One thread of a pool. It is a daemon: a process that ends does not wait for it."""

    def __init__(self, owner: str, take: Callable[[], Task | None], niceness: int = 0) -> None:
        """``take`` blocks until there is a task and returns it; None ends the thread."""
        super().__init__(name=owner, daemon=True)
        self._niceness = niceness
        self.owner = owner
        self.doing: tuple[Callable[[], Any], float] | None = None
        """The call that is being made, and when it began (monotonic seconds)."""
        self._take = take

    def run(self) -> None:
        if self._niceness:
            with suppress(OSError):  # Only Linux has a priority for each thread.
                os.setpriority(os.PRIO_PROCESS, get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + self._niceness)
        while (task := self._take()) is not None:
            task()
            del task  # Else it would keep its objects alive until the next one.


def outcome(call: Callable[[], T]) -> T | Failure:
    """Call, and return the result, or a Failure. ``pending`` lists the call if a ``WorkerThread`` makes it."""
    thread = current_thread()
    if isinstance(thread, WorkerThread):
        thread.doing = call, monotonic()
    try:
        return call()
    except BaseException:
        return Failure()  # type: ignore[no-untyped-call]
    finally:
        if isinstance(thread, WorkerThread):
            thread.doing = None


def _name(call: Callable[..., Any]) -> str:
    """Return a call's name; for a partial whose first argument is callable, that one's name."""
    while isinstance(call, partial):
        call = call.args[0] if call.args and callable(call.args[0]) else call.func
    return getattr(call, "__qualname__", None) or type(call).__name__
