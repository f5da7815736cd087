"""A chunked body, read a bounded number of steps at a time: a chunk may be a byte, and each costs some steps."""

from collections.abc import Callable

from twisted.web.http import _ChunkedTransferDecoder, _MalformedChunkedDataError

STEPS = 256
"""Sizes, pieces and ends of chunks that are read at a turn: half a millisecond."""

Malformed = _MalformedChunkedDataError


class Chunks(_ChunkedTransferDecoder):
    """Twisted's decoder, which stops now and then, and where ``held`` tells it to."""

    def __init__(
        self, taken: Callable[[bytes], None], finished: Callable[[bytes], None], held: Callable[[], bool]
    ) -> None:
        super().__init__(taken, finished)
        self._held = held
        self.more = False
        """There is something left to be read."""

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        self._buffer += data
        self.advance()

    def advance(self) -> None:
        """Read on. Raises Malformed."""
        self.more = False
        for _ in range(STEPS):
            if self._held():
                break
            if not self._buffer or not getattr(self, f"_dataReceived_{self.state}")():
                return
        self.more = bool(self._buffer)
