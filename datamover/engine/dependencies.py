"""The dependencies that the dispatcher and its maintenance share."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from datamover.concurrency.loops import Loops
from datamover.engine.lease import Lease
from datamover.engine.observer import UNOBSERVED, Observer
from datamover.engine.room.watch import RoomWatch
from datamover.engine.throttle import Throttles
from datamover.jobs.queue.cleanup import OrphanCleanup
from datamover.jobs.queue.limits import QueueLimits
from datamover.jobs.queue.queue import Queue
from datamover.jobs.upkeep.upkeep import Upkeep
from datamover.jobs.work import Group


class Work(Protocol):
    """Makes one attempt at a group, and writes its outcome unless the way its lease ended forbids that."""

    def __call__(self, group: Group, lease: Lease) -> Coroutine[Any, Any, None]: ...

    def sweep(self, group: Group, lease: Lease) -> Coroutine[Any, Any, bool]:
        """Remove the leftovers of a group that has ended; completes with whether all are removed."""
        ...


@dataclass(frozen=True, slots=True)
class EngineDependencies:
    """What the loops of one engine work with."""

    queue: Queue
    work: Work
    limits: Callable[[], QueueLimits]
    """Returns the limits at present."""
    throttles: Throttles
    upkeep: Upkeep
    cleanup: OrphanCleanup
    room: RoomWatch
    clock: IReactorTime
    monotonic: Callable[[], float]
    loops: Loops
    observer: Observer = UNOBSERVED
