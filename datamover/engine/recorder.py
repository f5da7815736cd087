"""Writes to the database what running transfers tell: how far they are, how they ended.

Many transfers, one statement: while one write is under way, everything new gathers for the next. While the database is
away nothing is lost; what could not be written is written when it is back, fenced by its lease as ever.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from datamover.engine.meter import Meter
from datamover.engine.observer import UNOBSERVED, Observer
from datamover.engine.pulse import Pulse
from datamover.errors import Unavailable
from datamover.jobs.values import Progress
from datamover.jobs.work import Outcome

log = Logger()

INTERVAL = 1.0
"""Seconds between two writes of progress; a checkpoint is written at once, since what came after it would be lost."""
AWAY = 1.0
"""Seconds before the next try while the database is away."""


class Written(Protocol):
    """What of the queue is needed here."""

    async def progress(self, progress: Sequence[Progress]) -> None: ...

    async def settle(self, outcomes: Sequence[Outcome]) -> None: ...


_Entry = tuple[Outcome, "Deferred[None]"]


class Recorder:
    """One loop for all transfers of this process."""

    def __init__(self, queue: Written, clock: IReactorTime, observer: Observer = UNOBSERVED) -> None:
        self._queue = queue
        self._clock = clock
        self._observer = observer
        self._meters: dict[int, Meter] = {}
        self._destinations: dict[int, str] = {}
        self._outcomes: list[_Entry] = []
        self._tried: list[Deferred[None]] = []
        self._urgent: set[Meter] = set()
        self._pulse = Pulse(clock)
        self._stopping = False
        self._sampled_at = 0.0

    @property
    def meters(self) -> Sequence[Meter]:
        return tuple(self._meters.values())

    def watch(self, meter: Meter, destination: str) -> Callable[[], None]:
        """Write this meter's figures from now on, and count what it moves; return what ends that."""
        self._meters[meter.transfer] = meter
        self._destinations[meter.transfer] = destination
        meter.urge = partial(self._urge, meter)

        def forget() -> None:
            self._count(meter, destination)
            self._urgent.discard(meter)
            if self._meters.get(meter.transfer) is meter:
                del self._meters[meter.transfer], self._destinations[meter.transfer]

        return forget

    def _urge(self, meter: Meter) -> None:
        self._urgent.add(meter)
        self._pulse.beat()

    async def settle(self, outcome: Outcome) -> None:
        """Write how an attempt ended; completes when it is on disk, however long the database is away.

        Cancelling gives it up: the lease will run out, and the attempt is made again.
        """
        written: Deferred[None] = Deferred()
        entry = (outcome, written)
        self._outcomes.append(entry)
        self._pulse.beat()
        try:
            await written
        except CancelledError:
            self._outcomes = [each for each in self._outcomes if each is not entry]
            raise

    async def caught_up(self) -> None:
        """Complete when everything told so far is written, or could not be."""
        tried: Deferred[None] = Deferred()
        self._tried.append(tried)
        self._pulse.beat()
        await tried

    async def run(self) -> None:
        """Write until ``stop``; completes when all that was told by then is written, or the database is away."""
        while True:
            last = self._stopping
            written = await self._write()
            if last:
                return
            if not written:
                await self._pulse.wait(AWAY, eager=False)
            elif not (self._outcomes or self._tried or self._urgent):
                await self._pulse.wait(INTERVAL)

    def stop(self) -> None:
        self._stopping = True
        self._pulse.beat()

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
        outcomes, self._outcomes = self._outcomes, []
        tried, self._tried = self._tried, []
        try:
            return await self._written(meters, outcomes)
        finally:
            for waiter in tried:
                if not waiter.called:
                    waiter.callback(None)

    def _count(self, meter: Meter, destination: str) -> None:
        moved, meter.moved = meter.moved, 0
        if moved:
            self._observer.bytes_moved(destination, moved)

    async def _written(self, watched: Sequence[Meter], outcomes: list[_Entry]) -> bool:
        ended = {entry[0].leader.id for entry in outcomes}
        meters = [meter for meter in watched if meter.transfer not in ended]
        news = [progress for meter in meters if (progress := meter.news()) is not None]
        try:
            if news:
                await self._queue.progress(news)
            if outcomes:
                await self._queue.settle([outcome for outcome, _ in outcomes])
        except Unavailable as error:
            log.warn("progress of {count} transfers is not written yet: {error}", count=len(news), error=error.message)
            for meter in meters:
                meter.forget_told()
            self._outcomes = [entry for entry in outcomes if not entry[1].called] + self._outcomes
            return False
        for _, written in outcomes:
            if not written.called:
                written.callback(None)
        return True
