"""An in-memory sink for small files."""

from datamover.protocols.base import Octets
from datamover.protocols.upload import Saved


class MemorySink:
    """``pipe.Sink`` of a file that one call will store."""

    watched = False

    def __init__(self) -> None:
        self._pieces: list[Octets] = []

    @property
    def content(self) -> bytes:
        return b"".join(self._pieces)

    async def write(self, data: Octets) -> None:
        self._pieces.append(data)

    async def flush(self) -> Saved:
        """Return offset 0: nothing is durable."""
        return Saved(0, "")
