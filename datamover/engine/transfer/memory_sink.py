"""An in-memory sink for small files."""

from datamover.protocols.base import Octets
from datamover.protocols.upload import Saved


class MemorySink:
    """``pipe.Sink`` of a file that is stored whole, by one call."""

    def __init__(self) -> None:
        self._pieces: list[Octets] = []

    @property
    def content(self) -> bytes:
        return b"".join(self._pieces)

    async def write(self, data: Octets) -> None:
        self._pieces.append(data)

    async def flush(self) -> Saved:
        """Return that nothing is durable."""
        return Saved(0, "")
