"""Decode a chunked body in bounded pieces of work, since a chunk may be as small as one byte."""

from collections.abc import Callable

from twisted.web.http import _ChunkedTransferDecoder, _MalformedChunkedDataError

from datamover.bounds.door import CHUNK_STEPS_IN_TURN

MalformedChunk = _MalformedChunkedDataError


class ChunkedDecoder(_ChunkedTransferDecoder):
    """Twisted's decoder, which pauses after ``CHUNK_STEPS_IN_TURN`` steps and while ``held`` returns true."""

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
        """Decode the next steps; raises MalformedChunk."""
        self.more = False
        for _ in range(CHUNK_STEPS_IN_TURN):
            if self._held():
                break
            if not self._buffer or not getattr(self, f"_dataReceived_{self.state}")():
                return
        self.more = bool(self._buffer)
