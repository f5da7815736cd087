"""How many bytes a transfer may have under way: what its path can hold, within the memory that all of them share.

One transfer alone gets what a long, fast path needs; many at once, which fill the path together, get less each.
"""

from datamover.concurrency.buffer_budgets import Buffers
from datamover.protocols.sftp.client.channel import SftpChannel

NEAR = 4 * 2**20
"""Bytes under way that a server close by needs, and at least those of any transfer that is alone."""
MOST = 16 * 2**20
"""Bytes under way of one transfer, however far and fast."""
_AHEAD = 200e6
"""Bytes a second that are reckoned with until the speed is known, up to half of ``MOST``."""
_SHORTEST = 0.001
"""Seconds; what comes within less says little of the speed."""


UNDER_WAY = Buffers(MOST, least=2**19, most=MOST)
"""Those of this process."""


class Window:
    """What one reader may have asked for and not taken: twice what it takes in the time there and back."""

    def __init__(self, channel: SftpChannel, budget: Buffers = UNDER_WAY) -> None:
        self._channel = channel
        self._budget = budget
        self._wanted = min(max(NEAR, int(channel.distance * _AHEAD)), MOST // 2)
        self._since = channel.clock.seconds()
        self._taken = 0
        self._leave = budget.join()

    @property
    def size(self) -> int:
        """Bytes, at this moment."""
        return min(self._wanted, self._budget.size)

    def took(self, count: int) -> None:
        """Take note of the speed; the window grows where it is what bounds that."""
        self._taken += count
        now, distance = self._channel.clock.seconds(), self._channel.distance
        elapsed = now - self._since
        if elapsed > max(distance, _SHORTEST):
            needed = int(2 * self._taken / elapsed * distance)
            self._wanted = min(max(self._wanted, needed), MOST)
            self._since, self._taken = now, 0

    def close(self) -> None:
        """Leave its part of the budget to others."""
        self._leave()
