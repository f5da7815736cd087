"""The metrics of engine processes: buffered in each, counted by their parent.

So one process reports the sums of all, and what an engine process counted stays counted after it has ended.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol

from datamover.engine.observer import Observer


class Counts(Observer, Protocol):
    """Everything that an engine process counts."""

    def lagged(self, seconds: float) -> None:
        """Count one measurement of how late the event loop is."""
        ...


class MetricsBuffer:
    """Buffers the calls of ``Counts`` until ``take``."""

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
        """Return the buffered calls and empty the buffer; calls whose numbers add up are merged into one."""
        sums = [(*name, count) for name, count in self._sums.items() if count]
        calls, self._calls, self._sums = self._calls, [], Counter()
        return (*sums, *calls)


def count(counts: Counts, calls: Iterable[tuple[Any, ...]]) -> None:
    """Make the calls that ``MetricsBuffer.take`` returned."""
    for name, *arguments in calls:
        getattr(counts, name)(*arguments)
