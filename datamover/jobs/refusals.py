"""Rows that the database refuses to change: found out among those that a statement takes, and passed over for a while.

A statement that chooses what it takes does not say what it chokes on. So it is asked what it would choose, and what
that is is taken piecemeal.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from datamover.batch import away, piecemeal
from datamover.errors import NotNow, Unavailable
from datamover.jobs.database import Row

T = TypeVar("T")

FIRST, LONGEST = 1.0, 60.0
"""Seconds for which what was refused is passed over, at first and at most; each time twice as long."""
REMEMBERED = 600.0
"""Seconds after which a refusal counts no more."""


class Aside:
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


async def take(
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
    return await apart(do, chosen)


async def apart(
    do: Callable[[Sequence[int]], Awaitable[Mapping[int, T]]], rows: Sequence[Row]
) -> tuple[dict[int, T], list[tuple[Row, Failure]]]:
    """Do something with rows, piecemeal where that is refused; return as ``take`` does.

    Raises Unavailable where nothing was done for it.
    """

    async def some(piece: Sequence[Row]) -> Sequence[T | None]:
        done = await do([row["id"] for row in piece])
        return [done.get(row["id"]) for row in piece]

    taken: dict[int, T] = {}
    refused: list[tuple[Row, Failure]] = []
    left: BaseException | None = None
    for row, answer in zip(rows, await piecemeal(some, rows), strict=True):
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
