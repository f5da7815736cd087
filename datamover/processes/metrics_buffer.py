"""What engine processes count: gathered where it happens, counted by the process that started them.

So one process tells the sums of all, and what a process counted stays counted when it is gone.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol

from datamover.engine.observer import Observer


class Counts(Observer, Protocol):
    """All that an engine process tells of itself."""

    def lagged(self, seconds: float) -> None:
        """The event loop was late by so much."""
        ...


class MetricsBuffer:
    """Gathers, as a Counts, until it is taken."""

    def __init__(self) -> None:
        self._sums: Counter[tuple[str, ...]] = Counter()
        self._calls: list[tuple[Any, ...]] = []

    def claimed(self, groups: int) -> None:
        self._sums["claimed",] += groups

    def attempt_ended(self, outcome: str, code: str | None) -> None:
        self._calls.append(("attempt_ended", outcome, code))

    def bytes_moved(self, destination: str, count: int) -> None:
        self._sums["bytes_moved", destination] += count

    def lease_lost(self) -> None:
        self._calls.append(("lease_lost",))

    def taken_over(self, groups: int) -> None:
        self._sums["taken_over",] += groups

    def loop_failed(self, loop: str) -> None:
        self._calls.append(("loop_failed", loop))

    def lagged(self, seconds: float) -> None:
        self._calls.append(("lagged", seconds))

    def take(self) -> tuple[tuple[Any, ...], ...]:
        """Return the calls that were gathered, those whose numbers add up as one, and begin anew."""
        sums = [(*name, count) for name, count in self._sums.items() if count]
        calls, self._calls, self._sums = self._calls, [], Counter()
        return (*sums, *calls)


def count(counts: Counts, calls: Iterable[tuple[Any, ...]]) -> None:
    """Make the calls that a Tally gathered."""
    for name, *arguments in calls:
        getattr(counts, name)(*arguments)
