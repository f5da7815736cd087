"""An event that one coroutine waits for, with a timeout."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime


class Wakeup:
    """An event for one waiter; when it is set while nobody waits, the next wait returns at once."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: Deferred[None] | None = None
        self._due = False

    def set(self) -> None:
        """Wake the waiter, or the next one to wait."""
        waiting, self._waiting = self._waiting, None
        if waiting is None or waiting.called:
            self._due = True
        else:
            waiting.callback(None)

    async def wait(self, seconds: float, *, eager: bool = True) -> None:
        """Wait until ``set`` is called, ``seconds`` at most; with ``eager`` False earlier calls of it do not count."""
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
