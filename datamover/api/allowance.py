"""How much each caller may do in an hour that leaves rows behind: calls that change jobs, files that are submitted."""

from collections.abc import Callable

HOUR = 3600.0
"""Seconds."""


class Allowance:
    """So many units of each caller in an hour. They come back little by little."""

    def __init__(self, seconds: Callable[[], float], most: Callable[[], int]) -> None:
        """``seconds`` is a clock; ``most`` returns the units that there are now."""
        self._seconds = seconds
        self._most = most
        self._used: dict[str, tuple[float, float]] = {}
        """By caller, the units that have not come back, and when that was so. Callers are few: those with a login."""

    def take(self, who: str, amount: int = 1) -> float:
        """Take units and return 0; where too few are left, return in how many seconds there will be enough.

        There are never enough for an amount that is larger than all of them: what is returned then means nothing.
        """
        most, now = self._most(), self._seconds()
        used, at = self._used.get(who, (0.0, now))
        used = max(used - (now - at) * most / HOUR, 0.0)
        if used + amount > most:
            return (used + amount - most) * HOUR / most
        self._used[who] = used + amount, now
        return 0.0

    def give(self, who: str, amount: int) -> None:
        """Give back units that were taken and not used."""
        if who in self._used:
            used, at = self._used[who]
            self._used[who] = max(used - amount, 0.0), at
