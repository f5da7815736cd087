"""A cache of one value that is costly to compute: it is computed once in a while, however many ask for it."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from datamover.concurrency.waiters import Waiters
from datamover.errors import Unavailable

log = Logger()

T = TypeVar("T")


class Cached(Generic[T]):
    """Computes a value when it is asked for and the cached one is too old; None if that fails or takes too long."""

    def __init__(
        self,
        make: Callable[[], Awaitable[T]],
        clock: IReactorTime,
        *,
        seconds: float,
        patience: float,
        share: float,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        """Cache a value for ``seconds``, or longer, so that computing it takes at most ``share`` of the time.

        ``make`` may raise Unavailable, which is cached as None; it is cancelled after ``patience`` seconds. ``failed``
        is called when it raises an unexpected error.
        """
        self._failed = failed
        self._make = make
        self._clock = clock
        self._seconds = seconds
        self._patience = patience
        self._share = share
        self._value: T | None = None
        self._until: float | None = None
        self._made_at = 0.0
        self._made: Waiters[None] = Waiters()
        self._busy = False

    @property
    def age(self) -> float:
        """Seconds since the value was computed."""
        return self._clock.seconds() - self._made_at

    async def get(self) -> T | None:
        """Return the value; cancelling only stops the waiting."""
        if self._until is None or self._clock.seconds() >= self._until:
            made = self._made.wait()
            if not self._busy:
                self._busy = True
                Deferred.fromCoroutine(self._remake())
            await made
        return self._value

    async def _making(self) -> T:
        return await self._make()

    async def _remake(self) -> None:
        began = self._clock.seconds()
        making = Deferred.fromCoroutine(self._making())
        hurry = self._clock.callLater(self._patience, making.cancel)
        try:
            self._value = await making
        except (CancelledError, Unavailable):
            self._value = None
        except Exception:  # A bug in ``make`` must not take down the page that shows the value.
            self._value = None
            log.failure("a monitored value could not be computed")
            self._failed()
        finally:
            if hurry.active():
                hurry.cancel()
        self._made_at = self._clock.seconds()
        self._until = self._made_at + max(self._seconds, (self._made_at - began) / self._share)
        self._busy = False
        self._made.wake(None)
