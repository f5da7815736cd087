"""Locks by name: those who want the same wait for each other, in their order, and for nobody else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import DeferredLock


class Locks:
    """A lock for each name that somebody waits for."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[DeferredLock, int]] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def held(self, name: str) -> AsyncIterator[None]:
        """Hold the lock of a name for as long as a block runs; cancelling gives up the place."""
        lock, wanted = self._locks.get(name) or (DeferredLock(), 0)
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
