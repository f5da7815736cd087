"""How many bytes a transfer may have requested: what its network path holds, within the memory that all share.

A single transfer gets what a long, fast path needs. Many concurrent ones fill the path together and get less each.
"""

from datamover.concurrency.buffer_budgets import Buffers
from datamover.protocols.sftp.client.channel import SftpChannel

NEAR = 4 * 2**20
"""Bytes requested from a near server, and the least for any transfer that runs alone."""
MOST = 16 * 2**20
"""Bytes requested by one transfer, at most."""
_AHEAD = 200e6
"""Bytes a second that are assumed until the speed is measured; the window is at most half of ``MOST`` then."""
_SHORTEST = 0.001
"""Seconds of the shortest measurement of the speed."""


UNDER_WAY = Buffers(MOST, least=2**19, most=MOST)
"""The budget of this process."""


class Window:
    """The bytes that one reader may have requested and not read: twice what it reads in a round trip."""

    def __init__(self, channel: SftpChannel, budget: Buffers = UNDER_WAY) -> None:
        self._channel = channel
        self._budget = budget
        self._wanted = min(max(NEAR, int(channel.distance * _AHEAD)), MOST // 2)
        self._since = channel.clock.seconds()
        self._taken = 0
        self._leave = budget.join()

    @property
    def size(self) -> int:
        """Bytes, at present."""
        return min(self._wanted, self._budget.size)

    def took(self, count: int) -> None:
        """Count bytes read, for the speed; the window grows if it bounds the speed."""
        self._taken += count
        now, distance = self._channel.clock.seconds(), self._channel.distance
        elapsed = now - self._since
        if elapsed > max(distance, _SHORTEST):
            needed = int(2 * self._taken / elapsed * distance)
            self._wanted = min(max(self._wanted, needed), MOST)
            self._since, self._taken = now, 0

    def close(self) -> None:
        """Return its share of the budget."""
        self._leave()
