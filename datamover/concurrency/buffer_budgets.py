"""Buffer sizes: the streams of one kind share a fixed number of bytes, so each holds less the more of them there are.

Large buffers make a stream fast, since fewer pieces are handed over; a constant size for each stream would take too
much memory when there are many.
"""

from collections.abc import Callable


class Buffers:
    """A number of bytes that streams share equally."""

    def __init__(self, total: int, *, least: int, most: int) -> None:
        """Share ``total`` bytes; a stream has between ``least`` and ``most`` of them."""
        self._total = total
        self._least = least
        self._most = most
        self._streams = 0

    @property
    def size(self) -> int:
        """The bytes that one stream may hold now."""
        return max(self._least, min(self._most, self._total // max(1, self._streams)))

    def join(self) -> Callable[[], None]:
        """Count one more stream; return the function that removes it, which may be called more than once."""
        self._streams += 1
        joined = True

        def leave() -> None:
            nonlocal joined
            self._streams -= joined
            joined = False

        return leave
