"""Rows that the database refuses to change: how they are found among others, and quarantined for a while.

The error of a statement that chooses its rows itself does not say which row causes it. So the rows that it would choose
are read, and given to it in halves until the one at fault stands alone.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency.batcher import away, bisect_batch
from datamover.concurrency.loops import OnRefusal
from datamover.errors import NotNow, Unavailable
from datamover.jobs.history import EventDetail
from datamover.postgres.database import Row

log = Logger()

T = TypeVar("T")

FIRST, LONGEST = 1.0, 60.0
"""Seconds of a row's first and longest quarantine; each one is twice as long as the one before."""
REMEMBERED = 600.0
"""Seconds after a quarantine until it is forgotten."""


class Quarantine:
    """The ids of rows that are passed over for a while."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._refused: dict[int, tuple[int, float]] = {}
        """How often a row was refused in succession, and the end of its quarantine."""

    def add(self, id: int) -> int:
        """Quarantine a row that was refused alone; return how often it has been refused in succession."""
        now = self._monotonic()
        self._refused = {each: (n, until) for each, (n, until) in self._refused.items() if now < until + REMEMBERED}
        times = self._refused.get(id, (0, 0.0))[0] + 1
        self._refused[id] = times, now + min(FIRST * 2 ** (times - 1), LONGEST)
        return times

    def release(self, id: int) -> None:
        """Forget a row, because it was changed or is no longer worked on."""
        self._refused.pop(id, None)

    @property
    def ids(self) -> list[int]:
        """The rows that are in quarantine now."""
        now = self._monotonic()
        return [id for id, (_, until) in self._refused.items() if now < until]


async def take_or_isolate(
    do: Callable[[Sequence[int] | None], Awaitable[Mapping[int, T]]], choose: Callable[[], Awaitable[Sequence[Row]]]
) -> tuple[dict[int, T], list[tuple[Row, Failure]]]:
    """Run a statement that chooses its rows; if the database refuses it, isolate the rows at fault.

    ``do`` runs the statement, for all rows or only for the given ids, and returns its results by id; ``choose`` returns
    the rows that it would choose. Returns the results, and the rows that are refused alone with their errors. Raises
    Unavailable, and what ``do`` raises if no row is at fault.
    """
    try:
        return dict(await do(None)), []
    except CancelledError:
        raise
    except Unavailable as error:
        if not isinstance(error, NotNow):
            raise
        refusal: Exception = error
    except Exception as error:
        refusal = error
    await do([])  # If this is refused too, no row is at fault.
    chosen = await choose()
    if not chosen:
        raise refusal
    return await isolate(do, chosen)


async def isolate(
    do: Callable[[Sequence[int]], Awaitable[Mapping[int, T]]], rows: Sequence[Row]
) -> tuple[dict[int, T], list[tuple[Row, Failure]]]:
    """Call ``do`` with rows, in halves if the database refuses it; returns like ``take_or_isolate``.

    Raises Unavailable if the database is away and nothing was done.
    """

    async def some(piece: Sequence[Row]) -> Sequence[T | None]:
        done = await do([row["id"] for row in piece])
        return [done.get(row["id"]) for row in piece]

    taken: dict[int, T] = {}
    refused: list[tuple[Row, Failure]] = []
    left: BaseException | None = None
    for row, answer in zip(rows, await bisect_batch(some, rows), strict=True):
        if not isinstance(answer, Failure):
            if answer is not None:
                taken[row["id"]] = answer
        elif away(answer):
            left = answer.value
        else:
            refused.append((row, answer))
    if left is not None and not taken and not refused:
        raise left
    return taken, refused


class PerJobWork:
    """Work of a loop on jobs that a statement chooses; a job that the database refuses to change is quarantined.

    When it is refused again, the work is done without writing events; if that is refused too, it stays in quarantine.
    """

    def __init__(self, loop: str, refused: OnRefusal, monotonic: Callable[[], float]) -> None:
        self._loop = loop
        self._refused = refused
        self._quarantine = Quarantine(monotonic)

    async def do(
        self,
        work: Callable[[Mapping[str, Any], EventDetail], Awaitable[Mapping[int, T]]],
        choose: Callable[[Mapping[str, Any]], Awaitable[Sequence[Row]]],
    ) -> dict[int, T]:
        """Return the results of ``work`` by job.

        ``work`` and ``choose`` are given the parameters ``only`` (these jobs; None: all) and ``passed_over`` (not
        these).
        """
        all_jobs = {"only": None, "passed_over": self._quarantine.ids}
        done, refused = await take_or_isolate(
            lambda only: work({**all_jobs, "only": only}, EventDetail.FULL), lambda: choose(all_jobs)
        )
        for job in done:
            self._quarantine.release(job)
        for row, failure in refused:
            again = self._quarantine.add(row["id"]) > 1
            if isinstance(failure.value, NotNow):
                log.warn("job {job} waits: {error}", job=row["id"], error=failure.value.full)
                continue
            self._refused(self._loop, f"job {row['id']}", failure)
            if again:
                untold, _ = await isolate(lambda only: work({**all_jobs, "only": only}, EventDetail.NONE), [row])
                done |= untold
        return done
