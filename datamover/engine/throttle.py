"""Limits on bytes a second, shared by every transfer that passes through one, and by the processes of a database."""

from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

QUANTUM = 64 * 1024
"""Bytes that are let through at a time: who brings large pieces has no larger share."""
SLACK = 0.02
"""Seconds too short to wait for: they are waited for together with the next."""


class Throttle:
    """Lets ``rate`` bytes a second through, in the order in which they come."""

    def __init__(self, clock: IReactorTime, rate: float) -> None:
        self._clock = clock
        self.rate = rate
        """Bytes a second, from the next bytes on."""
        self._free_at = clock.seconds()

    async def take(self, size: int) -> float:
        """Wait until ``size`` more bytes may pass; return the seconds waited. Cancelling gives up the turn."""
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
    """The limits of destinations: this process has that share of each that its transfers are of all that are active."""

    def __init__(self, clock: IReactorTime, bandwidth: Callable[[str], int | None]) -> None:
        """``bandwidth``: bytes a second over all processes, as it is now, None without a limit, by destination."""
        self._clock = clock
        self._bandwidth = bandwidth
        self._throttles: dict[str, Throttle] = {}

    def of(self, destination: str) -> Throttle | None:
        """Return a destination's limit, None where it has none."""
        rate = self._bandwidth(destination)
        if rate is None:
            return None
        return self._throttles.setdefault(destination, Throttle(self._clock, rate))

    def share(self, active: Mapping[str, tuple[int, int]]) -> None:
        """Take what is active at each destination, here and in all, for this process's share."""
        for name, throttle in self._throttles.items():
            here, everywhere = active.get(name, (0, 0))
            bandwidth = self._bandwidth(name)
            if bandwidth is not None:
                throttle.rate = bandwidth * max(here, 1) / max(everywhere, here, 1)
