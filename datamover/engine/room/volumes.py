"""Which destinations with ``keep_free`` share their room: those on one file system, in one container or account."""

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency.waiters import Waiters
from datamover.errors import DataMoverError
from datamover.protocols.place import DestinationPool, TellsVolume
from datamover.registry.destinations import Destination, Registry

log = Logger()

USED = 60.0
"""Seconds for which an answer is used, since a destination may be mounted elsewhere."""
PATIENCE = 1.0
"""Seconds that the first answer is waited for, so that a disk that hangs delays no other destination."""


class Volumes:
    """The volumes that destinations reported to this process last."""

    def __init__(self, registry: Callable[[], Registry], clock: IReactorTime) -> None:
        self._registry = registry
        self._clock = clock
        self._known: dict[DestinationPool, tuple[float, str | None]] = {}
        self._asking: dict[DestinationPool, Waiters[None]] = {}

    async def beside(self, destination: Destination) -> tuple[str, ...]:
        """Return the names of all destinations that share one's room, itself included, sorted.

        Only those of its protocol and its server are asked. Cancelling only stops the waiting.
        """
        registry = self._registry()
        all_of = [registry.get(name) for name in registry.names()]
        others = [
            each
            for each in all_of
            if each.keep_free is not None and each.name != destination.name and _may_share(each, destination)
        ]
        if others:
            self._forget({each.pool for each in all_of} | {destination.pool})
            for each in (destination, *others):
                self._ask(each.pool)
            for each in (destination, *others):
                await self._told(each.pool)
        volume = self._volume(destination)
        shared = [each.name for each in others if volume is not None and self._volume(each) == volume]
        return tuple(sorted([destination.name, *shared]))

    def _volume(self, destination: Destination) -> str | None:
        return self._known.get(destination.pool, (0.0, None))[1]

    def _forget(self, used: set[DestinationPool]) -> None:
        """Forget the pools that are no longer used."""
        self._known = {pool: told for pool, told in self._known.items() if pool in used}

    def _ask(self, pool: DestinationPool) -> None:
        if not isinstance(pool, TellsVolume) or pool in self._asking:
            return
        told = self._known.get(pool)
        if told is None or self._clock.seconds() - told[0] >= USED:
            self._asking[pool] = Waiters()
            Deferred.fromCoroutine(pool.volume()).addBoth(partial(self._answered, pool))

    async def _told(self, pool: DestinationPool) -> None:
        """Wait for the first answer of a pool, but not for long."""
        if pool in self._asking and pool not in self._known:
            waiting = self._asking[pool].wait()
            late = self._clock.callLater(PATIENCE, self._late, pool)
            try:
                await waiting
            finally:
                if late.active():
                    late.cancel()

    def _late(self, pool: DestinationPool) -> None:
        self._known.setdefault(pool, (self._clock.seconds(), None))
        if pool in self._asking:
            self._asking[pool].wake(None)

    def _answered(self, pool: DestinationPool, volume: str | Failure | None) -> None:
        if isinstance(volume, Failure):
            if not isinstance(volume.value, DataMoverError):
                log.failure("the volume of a destination is unknown", volume)
            known = self._known.get(pool)
            volume = None if known is None else known[1]
        self._known[pool] = self._clock.seconds(), volume
        self._asking.pop(pool).wake(None)


def _may_share(one: Destination, other: Destination) -> bool:
    """Tell whether two destinations can share a volume, so that they have to be asked."""
    if not isinstance(one.pool, TellsVolume) or not isinstance(other.pool, TellsVolume):
        return False
    return (one.protocol, one.pool.server) == (other.protocol, other.pool.server)
