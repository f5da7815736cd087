"""Locks by name, granted in the order of asking."""

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from twisted.internet.defer import DeferredSemaphore


class Locks:
    """A lock for each name that is held or waited for."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, tuple[DeferredSemaphore, int]] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def held(self, name: Hashable, at_once: int = 1) -> AsyncIterator[None]:
        """Hold the lock of a name while a block runs; cancelling leaves the queue.

        ``at_once`` may hold it at a time; the first to ask for a free name decides on the number.
        """
        lock, wanted = self._locks.get(name) or (DeferredSemaphore(at_once), 0)
        self._locks[name] = lock, wanted + 1
        try:
            await lock.acquire()
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, wanted = self._locks.pop(name)
            if wanted > 1:
                self._locks[name] = lock, wanted - 1
