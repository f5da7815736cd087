"""Waiting for a word or for a while, whichever comes first."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime


class Wakeup:
    """One waiter; a beat that comes while nobody waits is kept for the next wait."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: Deferred[None] | None = None
        self._due = False

    def set(self) -> None:
        """Wake who waits, or who waits next."""
        waiting, self._waiting = self._waiting, None
        if waiting is None or waiting.called:
            self._due = True
        else:
            waiting.callback(None)

    async def wait(self, seconds: float, *, eager: bool = True) -> None:
        """Wait for a beat, ``seconds`` at most; with ``eager`` False a beat from before does not count."""
        if self._due and eager:
            self._due = False
            return
        self._due = False
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        later = self._clock.callLater(seconds, self.set)
        try:
            await waiting
        finally:
            self._waiting = None
            if later.active():
                later.cancel()
