"""How many calls each caller may make in an hour, where a call leaves rows behind: an event, a line of the trail."""

from collections.abc import Callable

HOUR = 3600.0
"""Seconds."""


class Allowance:
    """So many calls of each caller in an hour. They come back little by little."""

    def __init__(self, seconds: Callable[[], float], most: Callable[[], int]) -> None:
        """``seconds`` is a clock; ``most`` returns the calls that there are now."""
        self._seconds = seconds
        self._most = most
        self._used: dict[str, tuple[float, float]] = {}
        """By caller, the calls that have not come back, and when that was so. Callers are few: those with a login."""

    def take(self, who: str) -> float:
        """Take one call and return 0; where none is left, return in how many seconds there will be one."""
        most, now = self._most(), self._seconds()
        used, at = self._used.get(who, (0.0, now))
        used = max(used - (now - at) * most / HOUR, 0.0)
        if used + 1 > most:
            return (used + 1 - most) * HOUR / most
        self._used[who] = used + 1, now
        return 0.0
