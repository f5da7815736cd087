"""Many small calls made one: what is asked for while a call is under way goes together in the next.

What the call does, and what becomes of one item among many, is its owner's matter.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

Item = TypeVar("Item")
Answer = TypeVar("Answer")


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
            return await self._do(items)
        except BaseException as error:  # Whatever it is, it is for those who asked.
            return [Failure(error) for _ in items]  # type: ignore[no-untyped-call]
