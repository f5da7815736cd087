"""Who works on what: claims groups, holds their leases, starts and ends the work.

Its loops take what may be taken, renew what is held, and stop what was lost. What any engine does for all jobs, such as
taking over what nodes that are gone held, is ``maintenance``'s business; what moving means is the worker's; what is
written of it, the recorder's.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency.batcher import bisect_batch
from datamover.concurrency.loops import Loops
from datamover.concurrency.stopping import NEVER, Deadline
from datamover.concurrency.wakeup import Wakeup
from datamover.engine.lease import RELIABLE, Ending, Lease
from datamover.engine.maintenance import Maintenance, Work
from datamover.engine.observer import UNOBSERVED, Observer
from datamover.engine.share import ALONE, ProcessShare
from datamover.engine.throttle import Throttles
from datamover.errors import DataMoverError, Unavailable
from datamover.jobs import notifications
from datamover.jobs.queue.limits import QueueLimits
from datamover.jobs.queue.queue import Queue
from datamover.jobs.upkeep.cleanup import OrphanCleanup
from datamover.jobs.upkeep.upkeep import Upkeep
from datamover.jobs.values import Transfer
from datamover.jobs.work import Group, StopReason

log = Logger()

POLL = 1.0
"""Seconds after which the queue is looked at, should no word have come."""
GATHERING = 0.02
"""Seconds in which what ends is gathered before the room it left is filled: one claim for many."""
BATCH = 64
"""Groups claimed at once, at most."""
BEATS = 3
"""Renewals in the time of one lease."""
STOPS = 60.0
"""Seconds after which what is to stop is looked for, should no word have come; renewals bring it, too."""
LEAVING = 2.0
"""Seconds that are left, at a stop, for handing back what is held."""
PAUSE_GRACE = 2.0
"""Seconds that a transfer which is paused has to reach a good moment."""


@dataclass(frozen=True, slots=True)
class _Run:
    lease: Lease
    done: Deferred[None]


class Dispatcher:
    """The work of one process."""

    def __init__(
        self,
        queue: Queue,
        work: Work,
        *,
        bounds: Callable[[], QueueLimits],
        throttles: Throttles,
        upkeep: Upkeep,
        left: OrphanCleanup,
        max_active: Callable[[], int],
        clock: IReactorTime,
        monotonic: Callable[[], float],
        heard: notifications.Notifications,
        observer: Observer = UNOBSERVED,
        share: ProcessShare = ALONE,
        loops: Loops | None = None,
    ) -> None:
        """``bounds``, and ``max_active`` of this process, tell those that hold now."""
        self._queue = queue
        self._work = work
        self._bounds = bounds
        self._own = share
        self._max_active = max_active
        self._clock = clock
        self._monotonic = monotonic
        self._news = heard
        self._observer = observer
        # By (transfer, lease): a lease that is lost here may be claimed here again before its work has ended.
        self._runs: dict[tuple[int, int], _Run] = {}
        self._pulse, self._stop_pulse = Wakeup(clock), Wakeup(clock)
        self._parked: list[Transfer] = []
        """What is to be given back: its job is paused."""
        self._soon: IDelayedCall | None = None
        self._unsure = False
        """The answer to a claim was lost: there may be leases of ours that nobody here knows of."""
        self._running = False
        self._stopping = False
        self._forget: Callable[[], None] = lambda: None
        loops = loops or Loops(clock)
        self._claims, self._leases = loops.loop("claims"), loops.loop("leases")
        self._watch, self._heartbeat = loops.loop("lost leases"), loops.loop("heartbeat")
        self._stops = loops.loop("stops")
        self._refused = loops.refused
        self._maintenance = Maintenance(
            queue,
            work,
            bounds=bounds,
            throttles=throttles,
            upkeep=upkeep,
            left=left,
            clock=clock,
            monotonic=monotonic,
            observer=observer,
            loops=loops,
            active=lambda: bool(self._runs),
            wake=self._pulse.set,
        )

    @property
    def active(self) -> int:
        """Groups that are worked on."""
        return len(self._runs)

    @property
    def running(self) -> bool:
        """Whether work is taken; ``Loops`` tells of those that do not turn."""
        return self._running and not self._stopping

    def start(self) -> None:
        """Begin to work."""
        self._running = True
        self._forget = self._news.subscribe(self._hear)
        self._claims.start(self._claiming)
        self._leases.start(self._renewing)
        self._watch.start(self._watching)
        self._stops.start(self._stopping_work)
        self._maintenance.start()

    async def stop(self, grace: float, deadline: Deadline = NEVER) -> None:
        """Take nothing new, give running work ``grace`` seconds to reach a good moment, and hand back the rest.

        Completes when nothing is worked on any more and the leases are given back, or the database is away. What hangs
        until shortly before the deadline keeps its lease, which runs out.
        """
        self._stopping = True
        self._forget()
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        loops = (self._claims, self._leases, self._watch, self._heartbeat, self._stops)
        await DeferredList([*(loop.stop() for loop in loops), *self._maintenance.stop()])
        runs = list(self._runs.values())
        for run in runs:
            run.lease.park()

        def end() -> None:
            for run in runs:
                run.lease.end(Ending.PARKED)

        hurry = self._clock.callLater(min(grace, deadline.left / 2), end)
        if not await deadline.earlier(LEAVING).ends(
            DeferredList([run.done for run in runs]), "the work of this process"
        ):
            for run in self._runs.values():
                leader = run.lease.leader
                log.warn(
                    "job {job}: transfer {transfer} does not stop: its lease runs out",
                    job=leader.job,
                    transfer=leader.id,
                )
        if hurry.active():
            hurry.cancel()
        try:
            await self._queue.reclaim_unknown(dict(self._runs))
            await self._queue.deregister()
        except Unavailable as error:
            log.warn("leases are left to run out: {error}", error=error.full)
        except CancelledError:
            raise
        except Exception:  # Whatever it is, the process ends.
            log.failure("leases are left to run out")

    # Taking ---------------------------------------------------------------------------------------------------

    async def _claiming(self) -> None:
        breath = Wakeup(self._clock)
        most = least = self._own.first(BATCH)
        while True:
            if self._unsure:
                await self._log_and_continue(self._disown)
            active = Counter(run.lease.leader.destination for run in self._runs.values())
            room = min(self._own.part(self._max_active()) - len(self._runs), most)
            bounds, asked = self._own.room(self._bounds(), active, room)
            taken = await self._log_and_continue(self._take, bounds, asked) if asked > 0 else 0
            self._claims.turned()
            if asked <= 0 or taken < asked:
                most = least if asked > 0 else most
                await self._pulse.wait(POLL)
            elif asked == most < BATCH:
                most = min(2 * most, BATCH)
                await breath.wait(GATHERING)

    async def _disown(self) -> int:
        handed_back = await self._queue.reclaim_unknown(dict(self._runs))
        self._unsure = False
        return handed_back

    async def _take(self, bounds: QueueLimits, room: int) -> int:
        self._unsure = True
        ends_at = self._monotonic() + self._queue.lease * RELIABLE
        groups = await self._queue.claim(bounds, room, self._maintenance.spent)
        if groups and self._monotonic() >= ends_at:
            # The claim had to wait. By what is known here, others may have these by now.
            ends_at = self._monotonic() + self._queue.lease * RELIABLE
            ours = await self._queue.renew([group.leader for group in groups])
            groups = [group for group in groups if _key(group.leader) in ours]
        self._unsure = False
        self._observer.claimed(len(groups))
        for group in groups:
            self._begin(group, Lease(group.leader, ends_at, self._monotonic))
        return len(groups)

    def _begin(self, group: Group, lease: Lease) -> None:
        run = self._runs[_key(group.leader)] = _Run(lease, Deferred())
        working = Deferred.fromCoroutine(self._work(group, lease))
        working.addErrback(_end_of_run, group.leader.job).addBoth(self._ended, run)

    def _ended(self, _: object, run: _Run) -> None:
        del self._runs[_key(run.lease.leader)]
        if run.lease.ending is Ending.PARKED and not self._stopping:
            self._parked.append(run.lease.leader)
            self._stop_pulse.set()
        run.done.callback(None)
        if self._soon is None and not self._stopping:
            self._soon = self._clock.callLater(GATHERING if self._runs else 0, self._refill)

    def _refill(self) -> None:
        self._soon = None
        self._pulse.set()

    # Holding --------------------------------------------------------------------------------------------------

    async def _renewing(self) -> None:
        pause = Wakeup(self._clock)
        while True:
            await self._log_and_continue(self._renew)
            self._leases.turned()
            await self._heartbeat.step(lambda: self._queue.heartbeat(len(self._runs)), None)
            await pause.wait(self._queue.lease / BEATS)

    async def _renew(self) -> int:
        """Renew what is held; what the database refuses of that is one lease's matter, which runs out."""
        runs = list(self._runs.values())
        ends_at = self._monotonic() + self._queue.lease * RELIABLE
        answers = await bisect_batch(self._renewed, runs)
        for run, answer in zip(runs, answers, strict=True):
            if isinstance(answer, Failure):
                if not isinstance(answer.value, Unavailable):
                    self._refused("leases", f"the lease on transfer {run.lease.leader.id}", answer)
            elif _key(run.lease.leader) in answer:
                run.lease.extend(ends_at)
                self._obey(run, answer[_key(run.lease.leader)])
            elif not run.lease.settling:  # Else the answer to its end may still be on its way.
                self._lose(run, "another node has it")
        for answer in answers:
            if isinstance(answer, Failure) and isinstance(answer.value, Unavailable):
                raise answer.value
        return len(runs)

    async def _renewed(self, runs: Sequence[_Run]) -> Sequence[dict[tuple[int, int], StopReason | None]]:
        ours = await self._queue.renew([run.lease.leader for run in runs])
        return [ours] * len(runs)

    async def _watching(self) -> None:
        """Stop what could not be renewed in time."""
        pause = Wakeup(self._clock)
        while True:
            for run in list(self._runs.values()):
                if not run.lease.held:
                    self._lose(run, "it could not be renewed in time")
            self._watch.turned()
            await pause.wait(POLL)

    def _lose(self, run: _Run, why: str) -> None:
        if self._runs.get(_key(run.lease.leader)) is run and run.lease.ending is not Ending.LOST:
            log.warn(
                "lost the lease on transfer {transfer} of job {job}: {why}",
                transfer=run.lease.leader.id,
                job=run.lease.leader.job,
                why=why,
            )
            run.lease.end(Ending.LOST)
            self._observer.lease_lost()

    def _hear(self, word: str) -> None:
        if word in ("", notifications.WORK):
            self._pulse.set()
        if word in ("", notifications.STOP) and self._runs:
            self._stop_pulse.set()

    async def _stopping_work(self) -> None:
        """Give back what was paused, and stop what its job wants to stop, when there is word of it."""
        while True:
            if self._parked:
                await self._log_and_continue(self._give_back)
            if self._runs:
                await self._log_and_continue(self._stop_some)
            self._stops.turned()
            await self._stop_pulse.wait(STOPS)

    async def _give_back(self) -> int:
        parked, self._parked = self._parked, []
        await self._queue.release(parked)
        return len(parked)

    async def _stop_some(self) -> int:
        stopping = await self._queue.stopping()
        for key, word in stopping.items():
            if key in self._runs:
                self._obey(self._runs[key], word)
        return len(stopping)

    def _obey(self, run: _Run, word: StopReason | None) -> None:
        """Do what a job wants of a transfer that runs."""
        if word is StopReason.CANCEL:
            run.lease.end(Ending.CANCELLED)
        elif word is StopReason.OVERDUE:
            run.lease.end(Ending.OVERDUE)
        elif word is StopReason.PAUSE and run.lease.ending is None:
            run.lease.park()
            hurry = self._clock.callLater(PAUSE_GRACE, run.lease.end, Ending.PARKED)
            run.done.addCallback(lambda _: hurry.cancel() if hurry.active() else None)

    async def _log_and_continue(self, call: Callable[..., Awaitable[int]], *arguments: Any) -> int:
        """Return what a call returns. Log a known error and return 0; the loop tries again."""
        try:
            return await call(*arguments)
        except DataMoverError as error:
            log.warn("the queue cannot be reached: {error}", error=error.full)
        return 0


def _key(leader: Transfer) -> tuple[int, int]:
    return leader.id, leader.lease


def _end_of_run(failure: Failure, job: int) -> None:
    if not isinstance(failure.value, CancelledError):
        log.failure("work on job {job} broke off", failure, job=job)
