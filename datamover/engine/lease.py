"""The right to work on a placement group, and why it ends early.

Measured on a clock that nobody can set (``time.monotonic``), and relied upon for a part of its time only: we stop
before others may begin.
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
"""The part of a lease's time that it is relied upon, counted from before it was asked for."""


class LeaseEnd(Enum):
    """Why work stops before it is done."""

    CANCELLED = "cancelled"
    """The client's word: what was brought is removed."""
    PARKED = "parked"
    """This process stops: what was brought stays for whoever goes on."""
    OVERDUE = "overdue"
    """The job's deadline: likewise."""
    REFUSED = "refused"
    """The database refuses what the work tells of itself."""
    LOST = "lost"
    """The lease ran out or is another's: nothing at the destination is ours to touch."""


class Parked(DataMoverError):
    """Raised at a good moment to stop, once a lease is to be parked."""

    code = "PARKED"
    retryable = True


class Lease:
    """One group's."""

    def __init__(self, leader: Transfer, ends_at: float, monotonic: Callable[[], float]) -> None:
        self.leader = leader
        self.ending: LeaseEnd | None = None
        self.settling = False
        """What came of the work is being written: as soon as it is, the lease is nobody's."""
        self._ends_at = ends_at
        self._monotonic = monotonic
        self._working: Deferred[Any] | None = None
        self._committed = False
        self._deciding = threading.Lock()
        """Held to decide which comes first, the commitment (made in a thread, maybe) or an ending."""

    @property
    def held(self) -> bool:
        """Whether we may still place and remove what this lease is on."""
        return self.ending is not LeaseEnd.LOST and self._monotonic() < self._ends_at

    @property
    def parking(self) -> bool:
        return self.ending is LeaseEnd.PARKED

    def check(self) -> None:
        """Raise Parked where the lease is not held: whoever has it now may be past looking for what we leave."""
        if not self.held:
            raise Parked("the lease was lost; whoever holds it goes on")

    def extend(self, ends_at: float) -> None:
        """Take note of a renewal; ``ends_at`` is when it is no longer relied upon."""
        self._ends_at = ends_at

    async def over(self, work: Coroutine[Any, Any, T]) -> T:
        """Do ``work``, which ``end`` cancels; what comes after it is not disturbed."""
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
        """Go past the point of no return: from here on only the loss of the lease stops the work. In any thread.

        Raises Parked where the lease is not held any more, or the work is to end.
        """
        with self._deciding:
            if not self.held or self.ending not in (None, LeaseEnd.PARKED):
                raise Parked("the lease ended before the file could be placed; whoever holds it goes on")
            self._committed = True

    def park(self) -> None:
        """Have the work stop at the next good moment."""
        self.ending = self.ending or LeaseEnd.PARKED

    def end(self, ending: LeaseEnd) -> None:
        """Stop the work at once, unless it is past the point of no return."""
        with self._deciding:
            if self._committed and ending is not LeaseEnd.LOST:
                return
            if self.ending in (None, LeaseEnd.PARKED) or ending is LeaseEnd.LOST:
                self.ending = ending
        if self._working is not None:
            self._working.cancel()
