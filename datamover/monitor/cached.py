"""A value that is costly to make, kept for a while: however many ask, it is made once in that time."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from datamover.errors import Unavailable

log = Logger()

T = TypeVar("T")


class Cached(Generic[T]):
    """Makes the value when it is asked for and the last one is too old; None where it could not be made in time."""

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
        """Keep a value for ``seconds``, longer where making it would take over ``share`` of the time.

        ``make`` may raise Unavailable, which is kept likewise; after ``patience`` seconds it is cancelled. ``failed``
        is called where it raises what nobody foresaw.
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
        self._waiting: list[Deferred[None]] = []
        self._busy = False

    @property
    def age(self) -> float:
        """Seconds since the value was made."""
        return self._clock.seconds() - self._made_at

    async def get(self) -> T | None:
        """Return the value; cancelling ends the waiting, not the making."""
        if self._until is None or self._clock.seconds() >= self._until:
            waiter: Deferred[None] = Deferred()
            self._waiting.append(waiter)
            if not self._busy:
                self._busy = True
                Deferred.fromCoroutine(self._remake())
            await waiter
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
        except Exception:  # A bug of the maker's: told, and the page goes without.
            self._value = None
            log.failure("a figure could not be made")
            self._failed()
        finally:
            if hurry.active():
                hurry.cancel()
        self._made_at = self._clock.seconds()
        self._until = self._made_at + max(self._seconds, (self._made_at - began) / self._share)
        self._busy = False
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:
                waiter.callback(None)
