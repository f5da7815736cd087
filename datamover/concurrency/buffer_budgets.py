"""What may be held of the streams that pass through a process: less of each, the more of them there are.

Large pieces make few hand-overs, and so a fast stream; a constant for each stream would be a lot for many. So those who
hold bytes of one kind share a constant, within bounds.
"""

from collections.abc import Callable


class Buffers:
    """The bytes that each of a number of streams may hold at one place."""

    def __init__(self, total: int, *, least: int, most: int) -> None:
        """Share ``total`` bytes, as far as ``least`` and ``most`` for one stream let it be."""
        self._total = total
        self._least = least
        self._most = most
        self._streams = 0

    @property
    def size(self) -> int:
        """Bytes that one stream may hold now."""
        return max(self._least, min(self._most, self._total // max(1, self._streams)))

    def join(self) -> Callable[[], None]:
        """Count one more stream; return what ends that, which may be called more than once."""
        self._streams += 1
        joined = True

        def leave() -> None:
            nonlocal joined
            self._streams -= joined
            joined = False

        return leave
