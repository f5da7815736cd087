"""Ends of attempts that wait to be written: together, and those that the database refuses by themselves.

What is refused, or put off, once it stands alone is *doubted*: tried again by itself, after a pause, one in each turn,
so that it holds up no other. Refused once more it is ended by as little as says that.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.batch import away, piecemeal
from datamover.errors import Unavailable
from datamover.jobs.work import Outcome
from datamover.loops import Refused

log = Logger()


class Settling(Protocol):
    """What of the queue is needed here."""

    async def settle(self, outcomes: Sequence[Outcome]) -> None: ...

    async def settle_alone(self, outcome: Outcome) -> bool: ...


@dataclass(slots=True, eq=False)
class _Entry:
    """An outcome, and who waits for it to be written."""

    outcome: Outcome
    written: Deferred[None]
    refused: bool = False
    """By itself, the last time."""

    def __str__(self) -> str:
        leader = self.outcome.leader
        return f"the end of transfer {leader.id} of job {leader.job} ({self.outcome.state.value})"


class Outcomes:
    """Those of one process."""

    def __init__(self, queue: Settling, added: Callable[[], None], refused: Refused) -> None:
        """``added`` is called when there is something to write, ``refused`` with what the database refuses."""
        self._queue = queue
        self._added = added
        self._refused = refused
        self._waiting: list[_Entry] = []
        self._doubted: deque[_Entry] = deque()

    def __bool__(self) -> bool:
        """Tell whether something waits to be written."""
        return bool(self._waiting or self._doubted)

    @property
    def transfers(self) -> set[int]:
        """The leaders of the groups whose ends wait."""
        return {entry.outcome.leader.id for entry in (*self._waiting, *self._doubted)}

    async def add(self, outcome: Outcome) -> None:
        """Wait until an outcome is on disk; cancelling gives it up."""
        entry = _Entry(outcome, Deferred())
        self._waiting.append(entry)
        self._added()
        try:
            await entry.written
        except CancelledError:
            self._remove(entry)
            raise

    async def write(self) -> bool:
        """Write what waits, and one of what is doubted; tell whether the database took all of that."""
        entries = list(self._waiting)
        answers = await piecemeal(self._settle, entries)
        for entry, answer in zip(entries, answers, strict=True):
            self._take(entry, answer)
        left = [answer for answer in answers if isinstance(answer, Failure) and away(answer)]
        if left:
            log.warn("{count} ends are not written yet: {error}", count=len(left), error=_words(left[0]))
            return False
        return not self._doubted or await self._write_doubted(self._doubted[0])

    def _take(self, entry: _Entry, answer: Failure | None) -> None:
        if answer is None:
            self._done(entry)
        elif entry in self._waiting and not away(answer):
            self._waiting.remove(entry)
            self._doubt(entry, answer)

    async def _write_doubted(self, entry: _Entry) -> bool:
        [answer] = await piecemeal(self._settle, [entry])
        if isinstance(answer, Failure):
            refused = not isinstance(answer.value, Unavailable)
            if not (refused and entry.refused and await self._end_alone(entry)):
                if entry in self._doubted:
                    self._doubted.remove(entry)
                    self._doubt(entry, answer)
                return False
        self._done(entry)
        return True

    async def _end_alone(self, entry: _Entry) -> bool:
        try:
            ended = await self._queue.settle_alone(entry.outcome)
        except Unavailable:
            return False
        if ended:
            log.error("{entry} is written by as little as the database takes", entry=str(entry))
        return ended

    def _doubt(self, entry: _Entry, failure: Failure) -> None:
        """Have an entry written by itself, after those that are doubted already."""
        refused, entry.refused = entry.refused, not isinstance(failure.value, Unavailable)
        if entry.refused and not refused:
            self._refused("progress", str(entry), failure)
        else:
            log.warn("{entry} is not written yet: {error}", entry=str(entry), error=_words(failure))
        self._doubted.append(entry)

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
