"""Limits on bytes a second of destinations, shared by all their transfers, in all processes of a database."""

from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

QUANTUM = 64 * 1024
"""Bytes that pass at a time, so that a transfer with large pieces gets no larger share."""
SLACK = 0.02
"""Seconds up to which a wait is postponed and added to the next."""


class Throttle:
    """Lets ``rate`` bytes a second pass, in the order of the calls."""

    def __init__(self, clock: IReactorTime, rate: float) -> None:
        self._clock = clock
        self.rate = rate
        """Bytes a second; a change applies to the next call."""
        self._free_at = clock.seconds()

    async def take(self, size: int) -> float:
        """Wait until ``size`` more bytes may pass; return the seconds waited. Cancelling stops the wait."""
        waited = 0.0
        for start in range(0, size, QUANTUM):
            waited += await self._take(min(QUANTUM, size - start))
        return waited

    async def _take(self, size: int) -> float:
        now = self._clock.seconds()
        self._free_at = max(now, self._free_at) + size / self.rate
        pause = self._free_at - now
        if pause <= SLACK:
            return 0.0
        await deferLater(self._clock, pause)
        return pause


class Throttles:
    """The limits of all destinations; this process's share of each is in proportion to its active transfers there."""

    def __init__(self, clock: IReactorTime, bandwidth: Callable[[str], int | None]) -> None:
        """``bandwidth`` returns a destination's limit at present over all processes, in bytes a second, or None."""
        self._clock = clock
        self._bandwidth = bandwidth
        self._throttles: dict[str, Throttle] = {}

    def of(self, destination: str) -> Throttle | None:
        """Return a destination's throttle, None if it has no limit."""
        rate = self._bandwidth(destination)
        if rate is None:
            return None
        return self._throttles.setdefault(destination, Throttle(self._clock, rate))

    def share(self, active: Mapping[str, tuple[int, int]]) -> None:
        """Set this process's shares; ``active`` has, by destination, its transfers and those of all processes."""
        for name, throttle in self._throttles.items():
            here, everywhere = active.get(name, (0, 0))
            bandwidth = self._bandwidth(name)
            if bandwidth is not None:
                throttle.rate = bandwidth * max(here, 1) / max(everywhere, here, 1)
