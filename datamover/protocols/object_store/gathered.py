"""The bytes that are gathered for the next part."""

from collections import deque

from datamover.protocols.base import Octets


class Gathered:
    """Bytes in order, kept in the pieces in which they came: each is copied once, when its part is taken."""

    def __init__(self) -> None:
        self._pieces: deque[Octets] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, data: Octets) -> None:
        """Take the next bytes, which nobody changes any more."""
        self._pieces.append(data)
        self._size += len(data)

    def take(self, size: int) -> bytes:
        """Return the first ``size`` bytes, which are there, and give them up."""
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
