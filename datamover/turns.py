"""Calls that take turns: of each kind so many at once, the others in the order in which they came."""

from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

from twisted.internet.defer import DeferredSemaphore

T = TypeVar("T")


class Turns:
    """The turns of every kind."""

    def __init__(self) -> None:
        self._kinds: dict[Hashable, DeferredSemaphore] = {}

    async def run(self, kind: Hashable, at_once: int, call: Callable[[], Awaitable[T]]) -> T:
        """Return what ``call`` returns, called when it is its turn; cancelling gives the turn to the next."""
        key = kind, at_once
        turns = self._kinds.setdefault(key, DeferredSemaphore(at_once))
        try:
            await turns.acquire()
            try:
                return await call()
            finally:
                turns.release()
        finally:
            if turns.tokens == at_once and not turns.waiting and self._kinds.get(key) is turns:
                del self._kinds[key]
