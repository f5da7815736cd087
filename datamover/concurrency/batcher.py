"""Many small calls made one: what is asked for while a call is under way goes together in the next.

What the call does, and what becomes of one item among many, is its owner's matter. ``bisect_batch`` is how a batch that
chokes on one of its items gets the others done.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from datamover.errors import NotNow, Unavailable

Item = TypeVar("Item")
Answer = TypeVar("Answer")

PATIENCE = 16
"""Refusals for a while (NotNow) that one batch meets before the rest of it is left for later …"""
HOPELESS = 64
"""… and items in a row that are refused by themselves: then it is everything that is refused."""


class Batch(Generic[Item, Answer]):
    """Calls ``do`` with at most ``most`` items; it returns an answer for each, in their order, or raises for all.

    So many ``calls`` are under way at a time.
    """

    def __init__(
        self, do: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Failure]]], most: int, *, calls: int = 1
    ) -> None:
        self._do = do
        self._most = most
        self._waiting: list[tuple[Item, Deferred[Answer]]] = []
        self._free = calls

    async def add(self, item: Item) -> Answer:
        """Have one item done; raises what ``do`` raised, or the failure that it returned in an answer's stead.

        Cancelling takes an item back that has not been begun; one that has been is done all the same.
        """
        answer: Deferred[Answer] = Deferred()
        self._waiting.append((item, answer))
        if self._free:
            self._free -= 1
            Deferred.fromCoroutine(self._run())
        return await answer

    async def _run(self) -> None:
        while entries := self._next():
            for (_, answer), result in zip(entries, await self._results([item for item, _ in entries]), strict=True):
                if not answer.called:
                    answer.callback(result)  # A Failure makes it an errback.
        self._free += 1

    def _next(self) -> list[tuple[Item, Deferred[Answer]]]:
        wanted = [entry for entry in self._waiting if not entry[1].called]
        self._waiting = wanted[self._most :]
        return wanted[: self._most]

    async def _results(self, items: Sequence[Item]) -> Sequence[Answer | Failure]:
        try:
            answers = await self._do(items)
            return [answer for _, answer in zip(items, answers, strict=True)]
        except BaseException as error:  # Whatever it is, it is for those who asked.
            return [Failure(error) for _ in items]  # type: ignore[no-untyped-call]


async def bisect_batch(
    do: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Failure]]], items: Sequence[Item]
) -> list[Answer | Failure]:
    """Have all items done in one call; where that raises, in two halves, and so on until what it chokes on is alone.

    Returns an answer or a Failure for each, in their order. ``do`` raises only where it has done nothing. Unavailable
    is no item's fault: it is returned for all that are not done by then; also where everything is refused.
    """
    answers: list[Answer | Failure] = []
    pieces: list[Sequence[Item]] = [items] if items else []
    patience, alone = PATIENCE, 0
    while pieces:
        piece = pieces.pop()
        try:
            answers += await do(piece)
            alone = 0
            continue
        except CancelledError:
            raise
        except Exception as error:  # Whatever it is, it is to be one item's alone.
            failure = Failure()  # type: ignore[no-untyped-call]
            patience -= isinstance(error, NotNow)
            if away(failure) or not patience or alone == HOPELESS:
                left: Exception = error if away(failure) else Unavailable(str(error))
                return answers + [Failure(left)] * (len(items) - len(answers))  # type: ignore[no-untyped-call]
        if len(piece) == 1:
            answers.append(failure)
            alone += 1
        else:
            half = len(piece) // 2
            pieces += [piece[half:], piece[:half]]
    return answers


def away(answer: object) -> bool:
    """Tell whether what came for an item is no item's fault: the database is away, and nothing was done."""
    error = answer.value if isinstance(answer, Failure) else None
    return isinstance(error, Unavailable) and not isinstance(error, NotNow)
