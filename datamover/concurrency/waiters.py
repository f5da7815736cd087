"""Callers that wait for the same result."""

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Waiters(Generic[T]):
    """Any number of callers that wait; ``wake`` gives all of them the same result."""

    def __init__(self, deserted: Callable[[], object] = lambda: None) -> None:
        """``deserted`` is called when the last caller that waits is cancelled."""
        self._waiting: list[Deferred[T]] = []
        self._deserted = deserted

    def __len__(self) -> int:
        """Return the number of callers that wait."""
        return len(self._waiting)

    def wait(self) -> Deferred[T]:
        """Fire with the result of the next ``wake``; cancelling only stops the waiting."""
        waiter: Deferred[T] = Deferred(self._forget)
        self._waiting.append(waiter)
        return waiter

    def wake(self, result: T | Failure) -> None:
        """Give the result, or the failure, to all who wait."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:  # It is, if one that was woken before it has cancelled it.
                waiter.callback(result)

    def _forget(self, waiter: Deferred[T]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            if not self._waiting:
                self._deserted()
