"""Claim placement groups, renew their leases, and start and stop the work on them.

``maintenance`` does what any engine does for all jobs, such as taking over the groups of nodes that are gone. The
worker moves files; the recorder writes their progress.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency.batcher import bisect_batch
from datamover.concurrency.stopping import NEVER, Deadline
from datamover.concurrency.wakeup import Wakeup
from datamover.engine.dependencies import EngineDependencies
from datamover.engine.lease import RELIABLE, Lease, LeaseEnd
from datamover.engine.maintenance import Maintenance
from datamover.engine.share import ALONE, ProcessShare
from datamover.errors import DataMoverError, Unavailable
from datamover.jobs.notifications import STOP, WORK, Notifications
from datamover.jobs.queue.limits import QueueLimits
from datamover.jobs.values import Transfer
from datamover.jobs.work import Group, StopReason

log = Logger()

POLL = 1.0
"""Seconds between two claims, if no notification arrives before."""
GATHERING = 0.02
"""Seconds from the end of a group to the next claim, so that one claim serves several ends."""
BATCH = 64
"""Groups of one claim, at most."""
RENEWALS = 3
"""Renewals within the time of one lease."""
STOPS = 60.0
"""Seconds between two reads of what is to stop, if no notification arrives before; renewals read it too."""
LEAVING = 2.0
"""Seconds of a stop that are reserved for releasing the leases."""
PAUSE_GRACE = 2.0
"""Seconds that a paused transfer has to reach a checkpoint before it is cancelled."""


@dataclass(frozen=True, slots=True)
class _Run:
    lease: Lease
    done: Deferred[None]


class Dispatcher:
    """Dispatches the work of one process."""

    def __init__(
        self,
        dependencies: EngineDependencies,
        *,
        max_active: Callable[[], int],
        notifications: Notifications,
        share: ProcessShare = ALONE,
    ) -> None:
        """``max_active`` returns the limit of this process at present."""
        self._queue = dependencies.queue
        self._work = dependencies.work
        self._limits = dependencies.limits
        self._clock = dependencies.clock
        self._monotonic = dependencies.monotonic
        self._observer = dependencies.observer
        self._share = share
        self._max_active = max_active
        self._notifications = notifications
        # By (transfer, lease): this process may claim a group again before the work under the lost lease has ended.
        self._runs: dict[tuple[int, int], _Run] = {}
        self._active: Counter[str] = Counter()
        """The groups that are worked on, by destination."""
        self._work_wakeup, self._stop_wakeup = Wakeup(self._clock), Wakeup(self._clock)
        self._parked: list[Transfer] = []
        """Leaders of the groups to release: their job is paused."""
        self._soon: IDelayedCall | None = None
        self._unsure = False
        """The answer to a claim was lost: this process may hold leases that it does not know of."""
        self._running = False
        self._stopping = False
        self._unsubscribe: Callable[[], None] = lambda: None
        loops = dependencies.loops
        self._claims, self._leases = loops.loop("claims"), loops.loop("leases")
        self._watch, self._heartbeat = loops.loop("lost leases"), loops.loop("heartbeat")
        self._stops = loops.loop("stops")
        self._refused = loops.refused
        self._maintenance = Maintenance(dependencies, active=lambda: bool(self._runs), wake=self._work_wakeup.set)

    @property
    def active(self) -> int:
        """How many groups are worked on."""
        return len(self._runs)

    @property
    def running(self) -> bool:
        """Whether this process claims work; ``Loops`` reports loops that hang."""
        return self._running and not self._stopping

    def start(self) -> None:
        """Start the loops."""
        self._running = True
        self._unsubscribe = self._notifications.subscribe(self._notified)
        self._claims.start(self._claiming)
        self._leases.start(self._renewing)
        self._watch.start(self._watching)
        self._stops.start(self._stopping_work)
        self._maintenance.start()

    async def stop(self, grace: float, deadline: Deadline = NEVER) -> None:
        """Claim nothing new, give running work ``grace`` seconds to reach a checkpoint, and release all leases.

        Completes when no work runs and the leases are released, or the database is unreachable. Work that hangs until
        shortly before the deadline keeps its lease, which runs out.
        """
        self._stopping = True
        self._unsubscribe()
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
                run.lease.end(LeaseEnd.PARKED)

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
            await self._maintenance.note_late()
            await self._queue.reclaim_unknown(dict(self._runs))
            await self._queue.deregister()
        except Unavailable as error:
            log.warn("leases are left to run out: {error}", error=error.full)
        except CancelledError:
            raise
        except Exception:  # Whatever it is, the process ends.
            log.failure("leases are left to run out")

    # Claiming -------------------------------------------------------------------------------------------------

    async def _claiming(self) -> None:
        pause = Wakeup(self._clock)
        most = least = self._share.first(BATCH)
        while True:
            if self._unsure:
                await self._log_and_continue(self._reclaim_unknown)
            here = self._share.part(self._max_active())
            room = min(here - len(self._runs), most)
            limits, asked = self._share.room(replace(self._limits(), here=here), self._active, room)
            taken = await self._log_and_continue(self._take, limits, asked) if asked > 0 else 0
            self._claims.turned()
            if asked <= 0 or taken < asked:
                most = least if asked > 0 else most
                await self._work_wakeup.wait(POLL)
            elif asked == most < BATCH:
                most = min(2 * most, BATCH)
                await pause.wait(GATHERING)

    async def _reclaim_unknown(self) -> int:
        reclaimed = await self._queue.reclaim_unknown(dict(self._runs))
        self._unsure = False
        return reclaimed

    async def _take(self, limits: QueueLimits, room: int) -> int:
        self._unsure = True
        ends_at = self._monotonic() + self._queue.lease * RELIABLE
        groups = await self._queue.claim(limits, room, self._maintenance.over_quota)
        if groups and self._monotonic() >= ends_at:
            # The claim took so long that other nodes may have taken these groups over.
            ends_at = self._monotonic() + self._queue.lease * RELIABLE
            ours = await self._queue.renew([group.leader for group in groups])
            groups = [group for group in groups if _key(group.leader) in ours]
        self._unsure = False
        self._observer.claimed(len(groups))
        for group in groups:
            self._begin(group, ends_at)
        return len(groups)

    def _begin(self, group: Group, ends_at: float) -> None:
        leader = group.leader
        lease = Lease(leader, ends_at, self._monotonic)
        run = self._runs[_key(leader)] = _Run(lease, Deferred())
        self._active[leader.destination] += 1
        working = Deferred.fromCoroutine(self._work(group, lease))
        working.addErrback(_end_of_run, leader.job).addBoth(self._ended, run)

    def _ended(self, _: object, run: _Run) -> None:
        leader = run.lease.leader
        del self._runs[_key(leader)]
        self._active[leader.destination] -= 1
        if run.lease.ending is LeaseEnd.PARKED and not self._stopping:
            self._parked.append(leader)
            self._stop_wakeup.set()
        if not run.lease.held:
            self._maintenance.late(leader)
        run.done.callback(None)
        if self._soon is None and not self._stopping:
            self._soon = self._clock.callLater(GATHERING if self._runs else 0, self._refill)

    def _refill(self) -> None:
        self._soon = None
        self._work_wakeup.set()

    # Leases ---------------------------------------------------------------------------------------------------

    async def _renewing(self) -> None:
        pause = Wakeup(self._clock)
        while True:
            await self._log_and_continue(self._renew)
            self._leases.turned()
            await self._heartbeat.step(lambda: self._queue.heartbeat(len(self._runs)), None)
            await pause.wait(self._queue.lease / RENEWALS)

    async def _renew(self) -> int:
        """Renew all leases; one that the database refuses runs out by itself."""
        runs = list(self._runs.values())
        ends_at = self._monotonic() + self._queue.lease * RELIABLE
        answers = await bisect_batch(self._renewed, runs)
        for run, answer in zip(runs, answers, strict=True):
            if isinstance(answer, Failure):
                if not isinstance(answer.value, Unavailable):
                    self._refused("leases", f"the lease on transfer {run.lease.leader.id}", answer)
            elif _key(run.lease.leader) in answer:
                run.lease.extend(ends_at)
                self._stop_run(run, answer[_key(run.lease.leader)])
            elif not run.lease.settling:  # While settling, the database may have released it already.
                self._lose(run, "another node has it")
        for answer in answers:
            if isinstance(answer, Failure) and isinstance(answer.value, Unavailable):
                raise answer.value
        return len(runs)

    async def _renewed(self, runs: Sequence[_Run]) -> Sequence[dict[tuple[int, int], StopReason | None]]:
        ours = await self._queue.renew([run.lease.leader for run in runs])
        return [ours] * len(runs)

    async def _watching(self) -> None:
        """Stop the work whose lease was not renewed in time."""
        pause = Wakeup(self._clock)
        while True:
            for run in list(self._runs.values()):
                if not run.lease.held:
                    self._lose(run, "it could not be renewed in time")
            self._watch.turned()
            await pause.wait(POLL)

    def _lose(self, run: _Run, why: str) -> None:
        if self._runs.get(_key(run.lease.leader)) is run and run.lease.ending is not LeaseEnd.LOST:
            log.warn(
                "lost the lease on transfer {transfer} of job {job}: {why}",
                transfer=run.lease.leader.id,
                job=run.lease.leader.job,
                why=why,
            )
            run.lease.end(LeaseEnd.LOST)
            self._observer.lease_lost()

    def _notified(self, topic: str) -> None:
        if topic in ("", WORK):
            self._work_wakeup.set()
        if topic in ("", STOP) and self._runs:
            self._stop_wakeup.set()

    async def _stopping_work(self) -> None:
        """When notified, release paused groups, and stop those whose job is to stop."""
        while True:
            if self._parked:
                await self._log_and_continue(self._release_parked)
            if self._runs:
                await self._log_and_continue(self._stop_some)
            self._stops.turned()
            await self._stop_wakeup.wait(POLL if self._parked else STOPS)

    async def _release_parked(self) -> int:
        parked = tuple(self._parked)
        await self._queue.release(parked)
        del self._parked[: len(parked)]
        return len(parked)

    async def _stop_some(self) -> int:
        stopping = await self._queue.stopping()
        for key, reason in stopping.items():
            if key in self._runs:
                self._stop_run(self._runs[key], reason)
        return len(stopping)

    def _stop_run(self, run: _Run, reason: StopReason | None) -> None:
        """Stop a group if its job gives a reason to."""
        if reason is StopReason.CANCEL:
            run.lease.end(LeaseEnd.CANCELLED)
        elif reason is StopReason.OVERDUE:
            run.lease.end(LeaseEnd.OVERDUE)
        elif reason is StopReason.PAUSE and run.lease.ending is None:
            run.lease.park()
            hurry = self._clock.callLater(PAUSE_GRACE, run.lease.end, LeaseEnd.PARKED)
            run.done.addCallback(lambda _: hurry.cancel() if hurry.active() else None)

    async def _log_and_continue(self, call: Callable[..., Awaitable[int]], *arguments: Any) -> int:
        """Return the call's result. Log a known error and return 0; the loop tries again."""
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
