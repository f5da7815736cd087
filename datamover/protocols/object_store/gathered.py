"""The bytes that are gathered for the next part."""

from collections import deque

from datamover.protocols.base import Octets


class Gathered:
    """Bytes in order, stored as the pieces in which they came, so that each is copied only once, by ``take``."""

    def __init__(self) -> None:
        self._pieces: deque[Octets] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, data: Octets) -> None:
        """Append bytes, which must not change any more."""
        self._pieces.append(data)
        self._size += len(data)

    def take(self, size: int) -> bytes:
        """Remove the first ``size`` bytes and return them; there must be as many."""
        taken: list[Octets | memoryview] = []
        left = size
        while left:
            piece = self._pieces.popleft()
            if len(piece) > left:
                self._pieces.appendleft(piece[left:])
                taken.append(memoryview(piece)[:left])
                break
            taken.append(piece)
            left -= len(piece)
        self._size -= size
        return b"".join(taken)
