"""Long work on the reactor's thread in slices, such as reading a long document that a server sent.

Work that is done in slices is a generator, which yields wherever it may pause. In each turn of the reactor one slice is
done, of the work that has waited longest, however many wait.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from heapq import merge
from typing import TypeVar
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from datamover.bounds.servers import DOCUMENT_SLICE_SECONDS, STEPS_IN_SLICE

S = TypeVar("S")
T = TypeVar("T")

AT_ONCE = 64
"""Items of a list that one step converts."""
_SORTED = 2048
"""Names that one step sorts."""


class SlicedWork:
    """The slices of one document, or of one answer that arrives in pieces."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._steps = 0
        self._until = clock.seconds() + DOCUMENT_SLICE_SECONDS

    async def run(self, steps: Generator[None, None, T]) -> T:
        """Run a generator and return its result; whatever it raises is raised. Cancelling stops it during a pause."""
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            self._steps += 1
            if self._steps >= STEPS_IN_SLICE or self._clock.seconds() >= self._until:
                await next_turn(self._clock)
                self._steps, self._until = 0, self._clock.seconds() + DOCUMENT_SLICE_SECONDS


async def in_slices(clock: IReactorTime, steps: Generator[None, None, T]) -> T:
    """Run a generator and return its result. Cancelling stops it during a pause."""
    return await SlicedWork(clock).run(steps)


def converted(items: Iterable[S], convert: Callable[[S], T]) -> Generator[None, None, list[T]]:
    """Return the items converted, as steps."""
    found: list[T] = []
    for number, item in enumerate(items, 1):
        found.append(convert(item))
        if not number % AT_ONCE:
            yield
    return found


def in_order(names: Iterable[str]) -> Generator[None, None, list[str]]:
    """Return names sorted, as steps."""
    left, runs = list(names), list[list[str]]()
    for start in range(0, len(left), _SORTED):
        runs.append(sorted(left[start : start + _SORTED]))
        yield
    return (yield from converted(merge(*runs), str))


def result(steps: Generator[None, None, T]) -> T:
    """Run a generator at once and return its result: for short work, which needs no pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def next_turn(clock: IReactorTime) -> Deferred[None]:
    """Fire in a turn of the reactor in which no other slice is done. May be cancelled."""
    turns = _TURNS.get(clock)
    if turns is None:
        turns = _TURNS[clock] = _Turns()
    return turns.wait(clock)


class _Turns:
    """What waits for its slice, in order."""

    def __init__(self) -> None:
        self._waiting: deque[Deferred[None]] = deque()
        self._next: IDelayedCall | None = None

    def wait(self, clock: IReactorTime) -> Deferred[None]:
        waiting: Deferred[None] = Deferred(self._left)
        self._waiting.append(waiting)
        self._ask(clock)
        return waiting

    def _ask(self, clock: IReactorTime) -> None:
        if self._next is None:
            self._next = clock.callLater(0, self._turn, clock)

    def _turn(self, clock: IReactorTime) -> None:
        self._next = None
        first = self._waiting.popleft()
        if self._waiting:
            self._ask(clock)
        first.callback(None)

    def _left(self, waiting: Deferred[None]) -> None:
        self._waiting.remove(waiting)
        if not self._waiting and self._next is not None:
            self._next.cancel()
            self._next = None


_TURNS: WeakKeyDictionary[IReactorTime, _Turns] = WeakKeyDictionary()
