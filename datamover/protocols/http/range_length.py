"""How long the ranges are that a file is requested in. Pure.

Each range costs the server a request: Swift 10 ms of a processor, as much as reading 5 MB. A range may be longer than
what is held of it in memory: the rest then comes as it is read, over its connection alone, while those behind it stand
still. That loses nothing where the reader is the bottleneck, which a single long range finds out.
"""

LONGEST = 4
"""Shares of the memory that a range is long, at most."""
WAITED = 0.7
"""Fraction of the time spent waiting for bytes, from which on connections are the bottleneck: nothing is tried."""
HELD_UP = 0.15
"""Fraction of the time for which a long range may be waited for."""
FAST = 32e6
"""Bytes a second. At this speed a connection stands still for 8 s; servers end those that do so for long."""
PAUSE = 16
"""Ranges from the first one that held the reader up to the next trial; then twice as many each time."""
_KEPT = 0.75
"""How much of what is known of earlier ranges counts beside the last."""


class RangeLength:
    """The length of one file's next range, in shares of the memory that a range has."""

    def __init__(self) -> None:
        self._shares = 1
        self._trying = False
        """A range of twice the length was requested, and is not read yet."""
        self._left = 0
        """Ranges that are requested before the next trial."""
        self._pause = PAUSE
        self._bytes = self._seconds = self._waited = 0.0
        """Of the last ranges."""

    def next(self) -> int:
        """Return the shares of the range that is requested next."""
        self._left = max(0, self._left - 1)
        smooth = self._waited < WAITED * self._seconds and self._bytes >= FAST * self._seconds
        if self._trying or self._left or not smooth or self._shares >= LONGEST:
            return self._shares
        self._trying = True
        return 2 * self._shares

    def was_read(self, shares: int, size: int, seconds: float, waited: float) -> None:
        """Take into account that reading a range of ``size`` bytes took so many seconds, and waiting for it so many."""
        self._bytes = _KEPT * self._bytes + size
        self._seconds = _KEPT * self._seconds + seconds
        self._waited = _KEPT * self._waited + waited
        if shares == 1 or (shares > self._shares and not self._trying):
            return  # It was requested before another one held the reader up.
        if waited <= HELD_UP * seconds and size >= FAST * seconds:
            self._trying = self._trying and shares <= self._shares
            self._shares = max(self._shares, shares)
        else:
            self._trying, self._shares = False, shares // 2
            self._left, self._pause = self._pause, 2 * self._pause
