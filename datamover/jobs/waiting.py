"""Calls that wait: for the end of a job, or for an event of the history.

One poll a second, or at a notification, serves all of them: it finds the jobs that have ended and the owners with new
events, and only the calls that these concern are woken. They read a few at a time, so that other calls go first.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from datamover.bounds.calls import MOST_NEW_EVENTS, WAITING_POLL, WAITING_POLL_SOON, WAITING_READS
from datamover.concurrency.fair_share import FairQueue, FairShare
from datamover.concurrency.wakeup import Wakeup
from datamover.errors import DataMoverError
from datamover.jobs import notifications
from datamover.jobs.feed import Feed
from datamover.postgres.database import Database
from datamover.postgres.named_queries import QUERIES

log = Logger()

T = TypeVar("T")

TOGETHER = 20
"""Calls that are woken in one turn of the reactor."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """A call that waits: for a job's end, or for an event that its owner may see."""

    woken: Wakeup
    job: int | None = None
    owner: str | None = None

    def concerned(self, written: set[tuple[str, int]]) -> bool:
        """Return whether events of these owners and jobs concern this call."""
        if self.owner is None and self.job is None:
            return True
        return any(self.owner in (None, owner) and self.job in (None, job) for owner, job in written)


class WaitingCalls:
    """The calls of this process that wait.

    A call is registered before it reads what it waits for, so that what happens while it reads wakes it as well.
    """

    def __init__(
        self, database: Database, feed: Feed, subscriptions: notifications.Notifications, clock: IReactorTime
    ) -> None:
        self._database = database
        self._feed = feed
        self._clock = clock
        self._ends: dict[int, set[_Waiter]] = {}
        self._readers: set[_Waiter] = set()
        self._seen = 0
        """The cursor up to which the history was polled."""
        self._looking = self._again = False
        self._next: IDelayedCall | None = None
        self._turns = FairQueue(FairShare(lambda: WAITING_READS))
        subscriptions.subscribe(self._notified)

    @contextmanager
    def for_end(self, job: int) -> Iterator[Callable[[float], Awaitable[None]]]:
        """Register a call; yield what waits until the job may have ended, for so many seconds at most."""
        waiter = _Waiter(Wakeup(self._clock), job=job)
        waiters = self._ends.setdefault(job, set())
        waiters.add(waiter)
        try:
            yield partial(self._wait, waiter)
        finally:
            waiters.discard(waiter)
            if not waiters and self._ends.get(job) is waiters:
                del self._ends[job]
            self._rest()

    @contextmanager
    def for_event(self, owner: str | None, job: int | None) -> Iterator[Callable[[int, float], Awaitable[None]]]:
        """Register a call; yield what waits until there may be an event after a cursor, for so many seconds at most."""
        waiter = _Waiter(Wakeup(self._clock), job, owner)
        self._readers.add(waiter)
        try:
            yield partial(self._wait_after, waiter)
        finally:
            self._readers.discard(waiter)
            self._rest()

    async def read(self, owner: str | None, reading: Callable[[], Awaitable[T]]) -> T:
        """Return what ``reading`` returns, called in turn: one of each owner at a time, ``WAITING_READS`` of all."""
        async with self._turns.held(owner or ""):
            return await reading()

    async def _wait(self, waiter: _Waiter, seconds: float) -> None:
        self._look_in(WAITING_POLL)
        await waiter.woken.wait(seconds)

    async def _wait_after(self, waiter: _Waiter, after: int, seconds: float) -> None:
        if self._readers == {waiter}:
            self._seen = after
        await self._wait(waiter, seconds)

    def _notified(self, word: str) -> None:
        kind, _, job = word.partition(" ")
        if kind == notifications.ENDED and job.isdigit():
            Deferred.fromCoroutine(self._wake(self._ends.get(int(job), ())))
        if self._readers or not word:
            self._look_in(WAITING_POLL_SOON)

    def _look_in(self, seconds: float) -> None:
        """Poll in ``seconds``, or earlier if that is planned already."""
        if self._looking or not (self._ends or self._readers):
            self._again = self._again or seconds == WAITING_POLL_SOON
            return
        if self._next is not None and self._next.active():
            if self._next.getTime() <= self._clock.seconds() + seconds:
                return
            self._next.cancel()
        self._next = self._clock.callLater(seconds, self._look)

    def _rest(self) -> None:
        """Stop polling if no call waits."""
        if self._next is not None and self._next.active() and not (self._ends or self._readers):
            self._next.cancel()

    def _look(self) -> None:
        self._looking, self._again = True, False
        Deferred.fromCoroutine(self._find()).addErrback(
            lambda failure: log.failure("polling for calls that wait failed", failure)
        ).addBoth(self._looked)

    def _looked(self, _: object) -> None:
        self._looking = False
        self._look_in(WAITING_POLL_SOON if self._again else WAITING_POLL)

    async def _find(self) -> None:
        try:
            if self._ends:
                for row in await self._database.read(QUERIES["read_ended"], {"jobs": list(self._ends)}):
                    await self._wake(self._ends.get(row["job"], ()))
            if self._readers:
                await self._find_written()
        except DataMoverError:
            # The database is away: the calls read, and raise that to their clients.
            await self._wake([*self._readers, *(each for several in self._ends.values() for each in several)])

    async def _find_written(self) -> None:
        horizon, before = await self._feed.horizon(), self._seen
        if horizon == before:
            return
        self._seen = horizon
        found: set[tuple[str, int]] | None = None
        if 0 < horizon - before <= MOST_NEW_EVENTS:  # It is lower after a failover that lost the last events.
            rows = await self._database.read(QUERIES["read_written"], {"after": before, "horizon": horizon})
            found = {(row["owner"], row["job"]) for row in rows}
        await self._wake([waiter for waiter in self._readers if found is None or waiter.concerned(found)])

    async def _wake(self, waiters: Iterable[_Waiter]) -> None:
        """Wake calls, ``TOGETHER`` in each turn of the reactor."""
        for number, waiter in enumerate(list(waiters), 1):
            waiter.woken.set()
            if number % TOGETHER == 0:
                await deferLater(self._clock, 0)
