"""Write the progress and the outcomes of running transfers to the database.

One statement serves many transfers: while a write is in progress, new data gathers for the next. While the database is
unreachable nothing is lost: the data is written when it is back, fenced by its lease. If the database refuses a batch,
the transfer that causes it is found and ended; the others are written.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency.batcher import away, bisect_batch
from datamover.concurrency.loops import Loops
from datamover.concurrency.wakeup import Wakeup
from datamover.engine.meter import Meter
from datamover.engine.observer import UNOBSERVED, Observer
from datamover.engine.outcomes import Outcomes, Settling
from datamover.errors import Unavailable
from datamover.jobs.values import Progress
from datamover.jobs.work import Outcome

log = Logger()

INTERVAL = 1.0
"""Seconds between two writes of progress; a checkpoint is written at once, to lose few bytes after a crash."""
AWAY = 1.0
"""Seconds between two tries while the database is unreachable."""
DOUBT = 5.0
"""Seconds before the progress of a transfer that was refused alone is tried again."""


class Written(Settling, Protocol):
    """The methods of the queue that the recorder needs."""

    async def progress(self, progress: Sequence[Progress]) -> None: ...


class Recorder:
    """Writes for all transfers of this process, in one loop."""

    def __init__(
        self, queue: Written, clock: IReactorTime, observer: Observer = UNOBSERVED, loops: Loops | None = None
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._observer = observer
        loops = loops or Loops(clock)
        self._refused = loops.refused
        self._loop = loops.loop("progress")
        self._meters: dict[int, Meter] = {}
        self._destinations: dict[int, str] = {}
        self._wakeup = Wakeup(clock)
        self._outcomes = Outcomes(queue, clock, self._wakeup.set, loops.refused)
        self._resting: dict[Meter, float] = {}
        """Meters whose progress was refused alone or postponed -> when it is tried again."""
        self._tried: list[Deferred[None]] = []
        self._urgent: set[Meter] = set()
        self._stopping = False
        self._sampled_at = 0.0

    @property
    def meters(self) -> Sequence[Meter]:
        return tuple(self._meters.values())

    def watch(self, meter: Meter, destination: str) -> Callable[[], None]:
        """Write this meter's figures from now on, and count the bytes it moves; return a call that ends that."""
        self._meters[meter.transfer] = meter
        self._destinations[meter.transfer] = destination
        meter.urge = partial(self._urge, meter)

        def unwatch() -> None:
            self._count(meter, destination)
            self._urgent.discard(meter)
            self._resting.pop(meter, None)
            if self._meters.get(meter.transfer) is meter:
                del self._meters[meter.transfer], self._destinations[meter.transfer]

        return unwatch

    def _urge(self, meter: Meter) -> None:
        self._urgent.add(meter)
        self._wakeup.set()

    def settle(self, outcome: Outcome) -> Awaitable[None]:
        """Write an outcome; completes when it is on disk, however long the database is away, or is refused for good.

        Cancelling discards it: the lease runs out, and there is another attempt.
        """
        return self._outcomes.add(outcome)

    async def caught_up(self) -> None:
        """Complete when all progress up to now is written, or the write has failed."""
        tried: Deferred[None] = Deferred()
        self._tried.append(tried)
        self._wakeup.set()
        await tried

    async def run(self) -> None:
        """Write until ``stop``; completes when everything up to then is written, or the database is away."""
        await self._loop.start(self._run)

    async def _run(self) -> None:
        while True:
            last = self._stopping
            try:
                written = await self._write()
            except Exception:
                if not last:
                    raise
                self._loop.failed()
                return
            self._loop.turned()
            if last:
                return
            if not written:
                await self._wakeup.wait(AWAY, eager=False)
            elif not (self._outcomes.due or self._tried or self._urgent):
                await self._wakeup.wait(INTERVAL)

    def stop(self) -> None:
        self._stopping = True
        self._wakeup.set()
        self._loop.hurry()

    async def _write(self) -> bool:
        now = self._clock.seconds()
        urgent, self._urgent = self._urgent, set()
        meters: Sequence[Meter] = tuple(urgent)
        if now - self._sampled_at >= INTERVAL or self._tried:
            self._sampled_at = now
            meters = self.meters
            for meter in meters:
                meter.sample(now)
                self._count(meter, self._destinations[meter.transfer])
        tried, self._tried = self._tried, []
        try:
            written = await self._write_progress(meters)
            return await self._outcomes.write() and written
        finally:
            for waiter in tried:
                if not waiter.called:
                    waiter.callback(None)

    def _count(self, meter: Meter, destination: str) -> None:
        moved, meter.moved = meter.moved, 0
        if moved:
            self._observer.bytes_moved(destination, moved)

    async def _write_progress(self, watched: Iterable[Meter]) -> bool:
        """Write the changed figures of meters whose transfers have not ended; return False if the database is away."""
        ended, now = self._outcomes.transfers, self._clock.seconds()
        awake = [meter for meter in watched if meter.transfer not in ended and self._resting.get(meter, now) <= now]
        changed = [(meter, progress) for meter in awake if (progress := meter.unwritten()) is not None]
        arrived: set[Meter] = set()
        left: list[Failure] = []
        try:
            for (meter, progress), answer in zip(changed, await bisect_batch(self._progress, changed), strict=True):
                if not isinstance(answer, Failure):
                    arrived.add(meter)
                    self._resting.pop(meter, None)
                elif away(answer):
                    left.append(answer)
                elif await self._doubt(meter, progress, answer):
                    arrived.add(meter)
        finally:
            for meter, _ in changed:
                if meter not in arrived:
                    meter.forget_written()
        if left:
            error = str(left[0].value)
            log.warn("progress of {count} transfers is not written yet: {error}", count=len(left), error=error)
        return not left

    async def _progress(self, changed: Sequence[tuple[Meter, Progress]]) -> Sequence[None]:
        await self._queue.progress([progress for _, progress in changed])
        return [None] * len(changed)

    async def _doubt(self, meter: Meter, progress: Progress, failure: Failure) -> bool:
        """Postpone progress that was refused; if it is refused alone twice, end its transfer.

        Returns whether it is written after all. If only its entry in the history is refused, it is written without.
        """
        again = meter in self._resting
        self._resting[meter] = self._clock.seconds() + DOUBT
        if isinstance(failure.value, Unavailable):
            return False
        if not again:
            self._refused("progress", f"the progress of transfer {meter.transfer} ({progress})", failure)
            return False
        bare = Progress(progress.transfer, progress.lease, 0, None, 0.0, progress.stage, None, None)
        if not await self._takes(bare):
            return False
        if await self._takes(progress) or (progress.resumed and await self._takes(replace(progress, resumed=None))):
            return True
        meter.refuse()
        return False

    async def _takes(self, progress: Progress) -> bool:
        try:
            await self._queue.progress([progress])
        except CancelledError:
            raise
        except Exception as error:
            log.info("transfer {transfer}: {error}", transfer=progress.transfer, error=str(error))
            return False
        return True
