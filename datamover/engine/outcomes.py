"""Ends of attempts that wait to be written: together, and those that the database refuses by themselves.

What is refused, or put off, once it stands alone is *doubted*: tried again by itself, after a pause. Refused once
more it is ended by as little as says that; what takes not even that is given up after a while, and goes to whoever has
its lease then.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency.batcher import away, bisect_batch
from datamover.concurrency.loops import OnRefusal
from datamover.errors import Unavailable
from datamover.jobs.work import Outcome

log = Logger()

DOUBT = 1.0
"""Seconds before what is doubted is tried again."""
GIVEN_UP = 60.0
"""Seconds after which what the database refuses, whatever is written of it, is given up."""


class Settling(Protocol):
    """What of the queue is needed here."""

    async def settle(self, outcomes: Sequence[Outcome]) -> None: ...

    async def settle_alone(self, outcome: Outcome) -> bool: ...


@dataclass(slots=True, eq=False)
class _Entry:
    """An outcome, and who waits for it to be written."""

    outcome: Outcome
    written: Deferred[None]
    rests_until: float = 0.0
    refused_since: float | None = None
    """By itself, and each time until now."""

    def __str__(self) -> str:
        leader = self.outcome.leader
        return f"the end of transfer {leader.id} of job {leader.job} ({self.outcome.state.value})"


class Outcomes:
    """Those of one process."""

    def __init__(self, queue: Settling, clock: IReactorTime, added: Callable[[], None], refused: OnRefusal) -> None:
        """``added`` is called when there is something to write, ``refused`` with what the database refuses."""
        self._queue = queue
        self._clock = clock
        self._added = added
        self._refused = refused
        self._waiting: list[_Entry] = []
        self._doubted: list[_Entry] = []

    @property
    def due(self) -> bool:
        """Whether something is to be written now."""
        return bool(self._waiting) or self._ripe is not None

    @property
    def transfers(self) -> set[int]:
        """The leaders of the groups whose ends wait."""
        return {entry.outcome.leader.id for entry in (*self._waiting, *self._doubted)}

    async def add(self, outcome: Outcome) -> None:
        """Wait until an outcome is on disk, or given up; cancelling gives it up."""
        entry = _Entry(outcome, Deferred())
        self._waiting.append(entry)
        self._added()
        try:
            await entry.written
        except CancelledError:
            self._remove(entry)
            raise

    async def write(self) -> bool:
        """Write what waits, and the first of what is doubted; False: the database is away."""
        entries = list(self._waiting)
        answers = await bisect_batch(self._settle, entries)
        for entry, answer in zip(entries, answers, strict=True):
            self._take(entry, answer)
        left = [answer for answer in answers if isinstance(answer, Failure) and away(answer)]
        if left:
            log.warn("{count} ends are not written yet: {error}", count=len(left), error=_words(left[0]))
            return False
        if (doubted := self._ripe) is not None:
            await self._write_doubted(doubted)
        return True

    @property
    def _ripe(self) -> _Entry | None:
        now = self._clock.seconds()
        return next((entry for entry in self._doubted if entry.rests_until <= now), None)

    def _take(self, entry: _Entry, answer: Failure | None) -> None:
        if answer is None:
            self._done(entry)
        elif entry in self._waiting and not away(answer):
            self._waiting.remove(entry)
            self._doubted.append(entry)
            self._doubt(entry, answer)

    async def _write_doubted(self, entry: _Entry) -> None:
        [answer] = await bisect_batch(self._settle, [entry])
        if isinstance(answer, Failure):
            again = entry.refused_since is not None and not isinstance(answer.value, Unavailable)
            if not (again and await self._end_alone(entry)):
                self._doubt(entry, answer)
                return
        self._done(entry)

    async def _end_alone(self, entry: _Entry) -> bool:
        """Write as little of an end as the database takes, or give it up; False: it is to be tried again."""
        try:
            if await self._queue.settle_alone(entry.outcome):
                log.error("{entry} is written by as little as the database takes", entry=str(entry))
                return True
        except Unavailable:
            return False
        if self._clock.seconds() - (entry.refused_since or 0.0) < GIVEN_UP:
            return False
        log.error("{entry} cannot be written: it is given up, and its lease runs out", entry=str(entry))
        return True

    def _doubt(self, entry: _Entry, failure: Failure) -> None:
        """Have an entry written by itself, later."""
        now = self._clock.seconds()
        entry.rests_until = now + DOUBT
        if isinstance(failure.value, Unavailable):
            entry.refused_since = None
        elif entry.refused_since is None:
            entry.refused_since = now
            self._refused("progress", str(entry), failure)
            return
        log.warn("{entry} is not written yet: {error}", entry=str(entry), error=_words(failure))

    async def _settle(self, entries: Sequence[_Entry]) -> Sequence[None]:
        await self._queue.settle([entry.outcome for entry in entries])
        return [None] * len(entries)

    def _done(self, entry: _Entry) -> None:
        self._remove(entry)
        if not entry.written.called:
            entry.written.callback(None)

    def _remove(self, entry: _Entry) -> None:
        for entries in (self._waiting, self._doubted):
            if entry in entries:
                entries.remove(entry)


def _words(failure: Failure) -> str:
    return " ".join(str(failure.value).split())
