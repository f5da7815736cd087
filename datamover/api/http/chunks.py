"""Decode a chunked body in bounded pieces of work, since a chunk may be as small as one byte."""

from collections.abc import Callable

from twisted.web.http import _ChunkedTransferDecoder, _MalformedChunkedDataError

STEPS = 256
"""Chunk sizes, data and ends that are decoded in one turn: about half a millisecond."""

Malformed = _MalformedChunkedDataError


class Chunks(_ChunkedTransferDecoder):
    """Twisted's decoder, which pauses after STEPS steps and while ``held`` returns true."""

    def __init__(
        self, taken: Callable[[bytes], None], finished: Callable[[bytes], None], held: Callable[[], bool]
    ) -> None:
        super().__init__(taken, finished)
        self._held = held
        self.more = False
        """Whether undecoded bytes are left."""

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        self._buffer += data
        self.advance()

    def advance(self) -> None:
        """Decode the next steps; raises Malformed."""
        self.more = False
        for _ in range(STEPS):
            if self._held():
                break
            if not self._buffer or not getattr(self, f"_dataReceived_{self.state}")():
                return
        self.more = bool(self._buffer)
