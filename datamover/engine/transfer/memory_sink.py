"""An in-memory sink for small files."""

from collections.abc import Sequence

from datamover.protocols.base import Lack, Octets


class MemorySink:
    """``protocols.base.Sink`` of what is to be written whole."""

    def __init__(self) -> None:
        self._pieces: list[Octets] = []

    @property
    def content(self) -> bytes:
        return b"".join(self._pieces)

    async def write(self, data: Octets) -> None:
        self._pieces.append(data)

    async def flush(self) -> int:
        """Tell what is held; nothing of it is durable, and nothing resumes from it."""
        return sum(map(len, self._pieces))

    async def finish(self, *, modified: float | None) -> int:
        return await self.flush()

    doubtful = False

    @property
    def without(self) -> Sequence[Lack]:
        return ()

    async def close(self) -> None:
        self._pieces.clear()
