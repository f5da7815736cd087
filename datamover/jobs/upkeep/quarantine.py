"""Rows that the database refuses to change: found out among those that a statement takes, and passed over for a while.

A statement that chooses what it takes does not say what it chokes on. So it is asked what it would choose, and what
that is is taken piecemeal.
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
"""Seconds for which what was refused is passed over, at first and at most; each time twice as long."""
REMEMBERED = 600.0
"""Seconds after which a refusal counts no more."""


class Quarantine:
    """What is passed over, by its id."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._refused: dict[int, tuple[int, float]] = {}
        """How often in a row, and until when it is passed over."""

    def put(self, id: int) -> int:
        """Pass something over that was refused by itself; return how often it was in a row."""
        now = self._monotonic()
        self._refused = {each: (n, until) for each, (n, until) in self._refused.items() if now < until + REMEMBERED}
        times = self._refused.get(id, (0, 0.0))[0] + 1
        self._refused[id] = times, now + min(FIRST * 2 ** (times - 1), LONGEST)
        return times

    def take_back(self, id: int) -> None:
        """Forget what was refused: it has gone well, or is over."""
        self._refused.pop(id, None)

    @property
    def ids(self) -> list[int]:
        """Those that are passed over now."""
        now = self._monotonic()
        return [id for id, (_, until) in self._refused.items() if now < until]


async def take_or_isolate(
    do: Callable[[Sequence[int] | None], Awaitable[Mapping[int, T]]], choose: Callable[[], Awaitable[Sequence[Row]]]
) -> tuple[dict[int, T], list[tuple[Row, Failure]]]:
    """Run a statement that takes what it chooses, by id; where it is refused, piecemeal what it would choose.

    ``do`` takes all of that, or of it only the given ids; ``choose`` returns rows with their ``id``. Returns what was
    taken, and the rows that are refused by themselves, with the reasons. Raises what ``do`` raises where there is no
    row to blame, and Unavailable.
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
    await do([])  # Refused that too it is not for a row's sake.
    chosen = await choose()
    if not chosen:
        raise refusal
    return await isolate(do, chosen)


async def isolate(
    do: Callable[[Sequence[int]], Awaitable[Mapping[int, T]]], rows: Sequence[Row]
) -> tuple[dict[int, T], list[tuple[Row, Failure]]]:
    """Do something with rows, piecemeal where that is refused; return as ``take_or_isolate`` does.

    Raises Unavailable where nothing was done for it.
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
    """What a loop does with jobs that a statement chooses; what is refused of one is left for a while.

    Refused again it is done without being told; where that is refused too, it waits.
    """

    def __init__(self, loop: str, refused: OnRefusal, monotonic: Callable[[], float]) -> None:
        self._loop = loop
        self._refused = refused
        self._aside = Quarantine(monotonic)

    async def do(
        self,
        work: Callable[[Mapping[str, Any], EventDetail], Awaitable[Mapping[int, T]]],
        choose: Callable[[Mapping[str, Any]], Awaitable[Sequence[Row]]],
    ) -> dict[int, T]:
        """Return what was done, by job.

        Both are given the parameters of their statements: ``only`` those jobs, and those that are ``passed_over``.
        """
        all_jobs = {"only": None, "passed_over": self._aside.ids}
        done, refused = await take_or_isolate(
            lambda only: work({**all_jobs, "only": only}, EventDetail.FULL), lambda: choose(all_jobs)
        )
        for job in done:
            self._aside.take_back(job)
        for row, failure in refused:
            again = self._aside.put(row["id"]) > 1
            if isinstance(failure.value, NotNow):
                log.warn("job {job} waits: {error}", job=row["id"], error=failure.value.message)
                continue
            self._refused(self._loop, f"job {row['id']}", failure)
            if again:
                untold, _ = await isolate(lambda only: work({**all_jobs, "only": only}, EventDetail.NONE), [row])
                done |= untold
        return done
