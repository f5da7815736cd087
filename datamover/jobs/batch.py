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
    """Calls ``do`` with at most ``most`` items; it returns an answer for each, in their order, or raises for all."""

    def __init__(self, do: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Failure]]], most: int) -> None:
        self._do = do
        self._most = most
        self._waiting: list[tuple[Item, Deferred[Answer]]] = []
        self._running = False

    async def add(self, item: Item) -> Answer:
        """Have one item done; raises what ``do`` raised, or the failure that it returned in an answer's stead.

        Cancelling takes an item back that has not been begun; one that has been is done all the same.
        """
        answer: Deferred[Answer] = Deferred()
        self._waiting.append((item, answer))
        if not self._running:
            self._running = True
            Deferred.fromCoroutine(self._run())
        return await answer

    async def _run(self) -> None:
        while entries := [entry for entry in self._waiting if not entry[1].called][: self._most]:
            done = {id(answer) for _, answer in entries}
            self._waiting = [entry for entry in self._waiting if id(entry[1]) not in done and not entry[1].called]
            for (_, answer), result in zip(entries, await self._results([item for item, _ in entries]), strict=True):
                if not answer.called:
                    answer.callback(result)  # A Failure makes it an errback.
        self._waiting.clear()
        self._running = False

    async def _results(self, items: Sequence[Item]) -> Sequence[Answer | Failure]:
        try:
            return await self._do(items)
        except BaseException as error:  # Whatever it is, it is for those who asked.
            return [Failure(error) for _ in items]  # type: ignore[no-untyped-call]
