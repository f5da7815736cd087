"""A limit on bytes a second, shared by every transfer that passes through it."""

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

SLACK = 0.02
"""Seconds too short to wait for: they are waited for together with the next."""


class Throttle:
    """Lets ``rate`` bytes a second through, in the order in which they come."""

    def __init__(self, clock: IReactorTime, rate: int) -> None:
        self._clock = clock
        self._rate = rate
        self._free_at = clock.seconds()

    async def take(self, size: int) -> float:
        """Wait until ``size`` more bytes may pass; return the seconds waited. Cancelling gives up the turn."""
        now = self._clock.seconds()
        self._free_at = max(now, self._free_at) + size / self._rate
        pause = self._free_at - now
        if pause <= SLACK:
            return 0.0
        await deferLater(self._clock, pause)
        return pause
