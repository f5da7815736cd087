"""Which calls the threads of this process are in, and for how long: what there is to tell of one that hangs."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Thread, current_thread, get_native_id
from threading import enumerate as every_thread
from time import monotonic
from typing import Any

Runnable = Callable[[], None]
"""Raises nothing, and tells by itself what came of it."""
Task = tuple[Runnable, Callable[..., Any]]
"""What a thread is to do, and the call that it is to make by that."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A call that a thread is in."""

    threads: str
    """The name of the threads that it is one of."""
    call: str
    """The name of the function."""
    seconds: float
    """For how long."""


def pending() -> list[Pending]:
    """Return the calls that threads of this process are in, whoever's they are; the longest first."""
    now = monotonic()
    found = [(one.owner, one.doing) for one in every_thread() if isinstance(one, WorkerThread)]
    calls = [Pending(owner, _name(doing[0]), now - doing[1]) for owner, doing in found if doing is not None]
    return sorted(calls, key=lambda each: -each.seconds)


class WorkerThread(Thread):
    """One thread; a process does not wait for it when it ends."""

    def __init__(self, owner: str, take: Callable[[], Task | None], niceness: int = 0) -> None:
        """``take`` waits for the next work, and the call that it is to make; None: there is none."""
        super().__init__(name=owner, daemon=True)
        self._niceness = niceness
        self.owner = owner
        self.doing: tuple[Callable[..., Any], float] | None = None
        """The call, and since when."""
        self._take = take

    def run(self) -> None:
        if self._niceness:
            with suppress(OSError):  # Linux alone has a priority for each thread.
                os.setpriority(os.PRIO_PROCESS, get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + self._niceness)
        while (taken := self._take()) is not None:
            work, call = taken
            self.doing = call, monotonic()
            work()
            self.doing = None
            del taken, work, call  # What it held must not live until the next.


def doing(call: Callable[..., Any]) -> None:
    """Have it known which call the present thread, if it is one of ours, makes now."""
    thread = current_thread()
    if isinstance(thread, WorkerThread):
        thread.doing = call, monotonic()


def _name(call: Callable[..., Any]) -> str:
    """Return what a call is called; of one that makes another, which it is given first, the other's name."""
    while isinstance(call, partial):
        call = call.args[0] if call.args and callable(call.args[0]) else call.func
    return getattr(call, "__qualname__", None) or type(call).__name__
