"""The right to work on a placement group, and the reasons for which work ends early.

A lease is measured on a monotonic clock (``time.monotonic``), and used for only a part of its time, so that this
process stops before another may begin.
"""

import threading
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from datamover.errors import DataMoverError
from datamover.jobs.values import Transfer

T = TypeVar("T")

RELIABLE = 5 / 6
"""The part of a lease's time that is used, counted from before the database was asked for it."""


class LeaseEnd(Enum):
    """Why work stops before it is done."""

    CANCELLED = "cancelled"
    """The client cancelled the job: the upload is removed."""
    PARKED = "parked"
    """This process stops, or the job is paused: the upload stays for the next attempt."""
    OVERDUE = "overdue"
    """The job's deadline has passed: the upload is removed."""
    REFUSED = "refused"
    """The database refuses the progress that the work reports."""
    LOST = "lost"
    """The lease ran out or another node has it: this process must not touch the destination."""


class Parked(DataMoverError):
    """The work stopped at a point from which another attempt can go on."""

    code = "PARKED"
    retryable = True


class Lease:
    """The lease of one group."""

    def __init__(self, leader: Transfer, ends_at: float, monotonic: Callable[[], float]) -> None:
        self.leader = leader
        self.ending: LeaseEnd | None = None
        self.settling = False
        """The outcome is being written, which releases the lease."""
        self._ends_at = ends_at
        self._monotonic = monotonic
        self._working: Deferred[Any] | None = None
        self._committed = False
        self._deciding = threading.Lock()
        """Decides which comes first: ``commit``, which may run in a thread, or ``end``."""

    @property
    def held(self) -> bool:
        """Whether this process may still place and remove the group's files."""
        return self.ending is not LeaseEnd.LOST and self._monotonic() < self._ends_at

    @property
    def parking(self) -> bool:
        return self.ending is LeaseEnd.PARKED

    def check(self) -> None:
        """Raise Parked if the lease is not held: its next holder may not find what this process makes from now on."""
        if not self.held:
            raise Parked("the lease was lost; whoever holds it goes on")

    def extend(self, ends_at: float) -> None:
        """Take note of a renewal; the lease is used until ``ends_at``."""
        self._ends_at = ends_at

    async def over(self, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work``, which ``end`` cancels; what the caller awaits afterwards is not cancelled."""
        if self.ending is not None:
            work.close()
            raise CancelledError
        working: Deferred[T] = Deferred.fromCoroutine(work)
        self._working = working
        try:
            return await working
        finally:
            self._working = None

    def commit(self) -> None:
        """Commit to placing the files: from here on only the loss of the lease stops the work. Thread-safe.

        Raises Parked if the lease is no longer held, or the work is to end.
        """
        with self._deciding:
            if not self.held or self.ending not in (None, LeaseEnd.PARKED):
                raise Parked("the lease ended before the file could be placed; whoever holds it goes on")
            self._committed = True

    def park(self) -> None:
        """Ask the work to stop at the next point from which another attempt can go on."""
        self.ending = self.ending or LeaseEnd.PARKED

    def end(self, ending: LeaseEnd) -> None:
        """Cancel the work, unless it has committed and the lease is not lost."""
        with self._deciding:
            if self._committed and ending is not LeaseEnd.LOST:
                return
            if self.ending in (None, LeaseEnd.PARKED) or ending is LeaseEnd.LOST:
                self.ending = ending
        if self._working is not None:
            self._working.cancel()
