"""Batches: items that arrive while a call is running go together in the next call.

``Batch`` collects items; the function it is given decides what is done with them. ``bisect_batch`` isolates the items
of a batch that make the whole call fail, and has the others done.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from datamover.errors import NotNow, Unavailable

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 16
"""Temporary failures (NotNow) in one batch after which the rest of the batch is left for later."""
HOPELESS = 64
"""Items that fail one after the other, each alone, after which everything is taken to fail."""
REFUSES = "the database refuses what others asked at the same time: try again; nothing was stored"
"""What is told of items that were not tried."""


class Batch(Generic[T, R]):
    """Calls ``do`` with at most ``most`` items; at most ``calls`` of these calls run at a time.

    ``do`` returns a result for each item, in order, or a Failure in its place; what it raises applies to all of them.
    """

    def __init__(
        self, do: Callable[[Sequence[T]], Awaitable[Sequence[R | Failure]]], most: int, *, calls: int = 1
    ) -> None:
        self._do = do
        self._most = most
        self._waiting: list[tuple[T, Deferred[R]]] = []
        self._free = calls

    def add(self, item: T) -> Deferred[R]:
        """Add an item; fires with its result, and fails with what ``do`` raised or returned for the item as a Failure.

        Cancelling removes an item that waits; one whose call has started is done all the same.
        """
        answer: Deferred[R] = Deferred()
        self._waiting.append((item, answer))
        if self._free:
            self._free -= 1
            Deferred.fromCoroutine(self._run())
        return answer

    async def _run(self) -> None:
        while entries := self._next():
            for (_, answer), result in zip(entries, await self._results([item for item, _ in entries]), strict=True):
                if not answer.called:
                    answer.callback(result)  # A Failure makes it an errback.
        self._free += 1

    def _next(self) -> list[tuple[T, Deferred[R]]]:
        wanted = [entry for entry in self._waiting if not entry[1].called]
        self._waiting = wanted[self._most :]
        return wanted[: self._most]

    async def _results(self, items: Sequence[T]) -> Sequence[R | Failure]:
        try:
            answers = await self._do(items)
            return [answer for _, answer in zip(items, answers, strict=True)]
        except BaseException as error:  # Any error belongs to the callers of ``add``.
            return [Failure(error) for _ in items]  # type: ignore[no-untyped-call]


async def bisect_batch(
    do: Callable[[Sequence[T]], Awaitable[Sequence[R | Failure]]], items: Sequence[T]
) -> list[R | Failure]:
    """Call ``do`` with all items; if it raises, call it with each half, and so on down to single items.

    Returns a result or a Failure for each item, in order. ``do`` must have done nothing when it raises. Unavailable is
    no item's fault: it ends the bisection and is the result of all items that are not done by then. The same result is
    given when ``PATIENCE`` or ``HOPELESS`` is reached.
    """
    answers: list[R | Failure] = []
    pieces: list[Sequence[T]] = [items] if items else []
    patience, alone = PATIENCE, 0
    while pieces:
        piece = pieces.pop()
        try:
            answers += await do(piece)
            alone = 0
            continue
        except CancelledError:
            raise
        except Exception as error:  # Any error is pursued down to the item that causes it.
            failure = Failure()  # type: ignore[no-untyped-call]
            patience -= isinstance(error, NotNow)
            if away(failure) or not patience or alone == HOPELESS:
                left = error if away(failure) else _untried(error)
                return answers + [Failure(left)] * (len(items) - len(answers))  # type: ignore[no-untyped-call]
        if len(piece) == 1:
            answers.append(failure)
            alone += 1
        else:
            half = len(piece) // 2
            pieces += [piece[half:], piece[:half]]
    return answers


def away(answer: object) -> bool:
    """Return whether an item's result is a Failure that says that the database is away: nothing was done."""
    error = answer.value if isinstance(answer, Failure) else None
    return isinstance(error, Unavailable) and not isinstance(error, NotNow)


def _untried(error: Exception) -> Unavailable:
    """Return the result of items that were not tried, since others met ``error``."""
    if isinstance(error, NotNow):
        return Unavailable(error.message, full=error.full)
    return Unavailable(REFUSES, full=f"{REFUSES} ({error})")
