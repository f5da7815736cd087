"""The periodic work that any engine does for all jobs; a step that fails does not stop the others.

It shares bandwidth, counts the bytes of the day, takes over the groups of dead nodes, applies changes of jobs to their
files, ends overdue jobs, wakes what waits for room, deletes old history, and removes what ended transfers left behind.
``jobs.upkeep`` holds the rules.
"""

from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency.loops import BOUND
from datamover.concurrency.wakeup import Wakeup
from datamover.engine.dependencies import EngineDependencies
from datamover.engine.lease import RELIABLE, Lease
from datamover.errors import DataMoverError
from datamover.jobs.values import Transfer
from datamover.jobs.work import Group

log = Logger()

POLL = 1.0
"""Seconds between two rounds of these steps."""
LOOKING = 10.0
"""Seconds between two searches for leftovers of transfers that have ended."""
RETIRING = 600.0
"""Seconds between two searches for jobs whose history is old enough to be deleted."""
SWEEPS = 4
"""Groups that are swept concurrently, so that a destination that hangs delays no other."""


class Maintenance:
    """The periodic work of one process."""

    def __init__(
        self, dependencies: EngineDependencies, *, active: Callable[[], bool], wake: Callable[[], None]
    ) -> None:
        """``active`` returns whether this process works on a group; ``wake`` is called when more may be claimed."""
        self._queue = dependencies.queue
        self._work = dependencies.work
        self._limits = dependencies.limits
        self._throttles = dependencies.throttles
        self._upkeep = dependencies.upkeep
        self._cleanup = dependencies.cleanup
        self._room = dependencies.room
        self._clock = dependencies.clock
        self._monotonic = dependencies.monotonic
        self._observer = dependencies.observer
        self._active = active
        self._wake = wake
        self.over_quota: Sequence[str] = ()
        """The owners who have used up their bytes of the day."""
        loops = dependencies.loops
        self._upkeeping, self._sweeping = loops.loop("upkeep"), loops.loop("sweeping")
        self._shares, self._quotas, self._mending = loops.loop("shares"), loops.loop("quotas"), loops.loop("clock")
        self._takeovers, self._changes = loops.loop("takeovers"), loops.loop("changes")
        self._rooms = loops.loop("room")
        self._retirement = loops.loop("retirement", bound=RETIRING + BOUND)
        self._refused = loops.refused
        self._swept = Wakeup(self._clock)
        self._sweeps: set[Deferred[None]] = set()
        self._late: list[Transfer] = []
        """Leaders of groups whose leases were lost while this process worked on them."""

    def start(self) -> None:
        """Start the loops."""
        self._upkeeping.start(self._keep_up)
        self._sweeping.start(self._sweep)
        self._retirement.start(self._retire)

    def stop(self) -> Sequence[Deferred[None]]:
        """Stop the loops; the Deferreds fire when they have stopped."""
        steps = (self._shares, self._quotas, self._mending, self._takeovers, self._changes, self._rooms)
        ended = [loop.stop() for loop in (self._upkeeping, self._sweeping, self._retirement, *steps)]
        sweeps = list(self._sweeps)
        for sweep in sweeps:
            sweep.cancel()
        return [*ended, *sweeps, *self._room.stop()]

    # For all jobs ---------------------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        pause = Wakeup(self._clock)
        steps = (
            (self._shares, self._share),
            (self._quotas, self._count),
            (self._mending, self._mend_clock),
            (self._takeovers, self._take_over),
            (self._changes, self._carry_out),
            (self._rooms, self._room.look),
        )
        while True:
            for loop, step in steps:
                await loop.step(step, None)
                self._upkeeping.turned()
            await pause.wait(POLL)

    async def _share(self) -> None:
        self._throttles.share(await self._queue.shares() if self._active() else {})

    async def _count(self) -> None:
        self.over_quota = await self._queue.over_daily_quota(self._limits())

    async def _mend_clock(self) -> None:
        if await self._upkeep.mend_clock():
            self._wake()

    async def _take_over(self) -> None:
        taken_over = await self._queue.take_over()
        self._observer.taken_over(taken_over)
        if taken_over:
            self._wake()

    async def _carry_out(self) -> None:
        if await self._upkeep.carry_out():
            self._wake()

    async def _retire(self) -> None:
        """Delete history that is old enough, in a separate loop, so that nothing else waits for it."""
        pause = Wakeup(self._clock)
        while True:
            began = self._monotonic()
            more = await self._upkeep.retire_some()
            self._retirement.turned()
            await pause.wait(self._monotonic() - began if more else RETIRING)

    # Leftovers ------------------------------------------------------------------------------------------------

    def late(self, leader: Transfer) -> None:
        """Have a group swept once it has ended: this process went on with it for a moment after its lease was lost."""
        self._late.append(leader)
        self._swept.set()

    async def _sweep(self) -> None:
        """Remove leftovers that could not be removed when their transfer ended, or that came later."""
        while True:
            await self.note_late()
            while len(self._sweeps) < SWEEPS and await self._begin_to_sweep():
                pass
            self._sweeping.turned()
            await self._swept.wait(LOOKING)

    async def note_late(self) -> None:
        """Tell the database which groups are to be swept; does nothing but log while it is away."""
        late, self._late = self._late, []
        try:
            if late:
                await self._cleanup.late(late)
        except CancelledError:
            self._late += late
            raise
        except DataMoverError as error:
            self._late += late
            log.warn("what may have been left cannot be noted: {error}", error=error.full)

    async def _begin_to_sweep(self) -> bool:
        ends_at = self._monotonic() + self._cleanup.seconds * RELIABLE
        try:
            group = await self._cleanup.take(self._limits().destinations)
        except DataMoverError as error:
            log.warn("leftovers cannot be looked for: {error}", error=error.full)
            return False
        if group is None:
            return False
        sweep = Deferred.fromCoroutine(self._sweep_group(group, Lease(group.leader, ends_at, self._monotonic)))
        self._sweeps.add(sweep)
        sweep.addBoth(self._sweep_ended, sweep)
        return True

    async def _sweep_group(self, group: Group, lease: Lease) -> None:
        try:
            if await self._work.sweep(group, lease):
                await self._cleanup.done(group.leader)
        except CancelledError:
            return
        except DataMoverError as error:
            log.warn("job {job}: leftovers are not removed yet: {error}", job=group.leader.job, error=error.full)
        except Exception:
            what = f"the removal of the leftovers of transfer {group.leader.id} of job {group.leader.job}"
            self._refused("sweeping", what, Failure())  # type: ignore[no-untyped-call]

    def _sweep_ended(self, _: None, sweep: Deferred[None]) -> None:
        self._sweeps.discard(sweep)
        self._swept.set()
