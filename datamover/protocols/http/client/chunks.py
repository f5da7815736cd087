"""Parse the chunks of a body (RFC 9112, section 7.1). Pure.

As in curl and wget, sizes may be padded with spaces and zeros, and lines may end in a bare line feed; extensions and
trailers are ignored.
"""

import re
from enum import Enum, auto

from datamover.bounds.calls import LARGEST_FILE
from datamover.bounds.servers import IMPOSSIBLE_COUNT, LONGEST_CHUNK_LINE
from datamover.protocols.http.client.fields import told

_BETWEEN = re.compile(rb"\r\n([0-9A-Fa-f]{1,15})[ \t]*\r\n")
"""From the end of a chunk to the beginning of the next, as most servers have it."""
_ODD_BETWEEN = re.compile(rb"\r{0,2}\n([0-9A-Fa-f]{1,15})[ \t]*\r{0,2}\n")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:\r|;.*)", re.DOTALL)
_ODD_SIZE = re.compile(rb"[ \t]*(?=[0-9A-Fa-f])0*([0-9A-Fa-f]{0,40})(?:[ \t;].*|\r*)", re.DOTALL)


class _Line(Enum):
    """What the next line is."""

    SIZE = auto()
    DATA_END = auto()
    TRAILER = auto()


class ChunkParser:
    """The chunks of one body."""

    def __init__(self) -> None:
        self.complete = False
        """The last chunk and the trailers have arrived."""
        self.excess = False
        """More bytes follow the body."""
        self.broken = ""
        """Why the chunks are malformed; "" if they are not."""
        self.beyond = False
        """They are malformed for a size that no file has."""
        self.plain = True
        """Their framing is unambiguous."""
        self.steps = 0
        """The work of the last ``feed``: one step for each piece, four for each line that is parsed by itself."""
        self._left = 0
        """Bytes of the current chunk that are missing."""
        self._next = _Line.SIZE
        self._line = b""
        """The beginning of the next line."""

    def feed(self, data: bytes) -> bytes:
        """Take received bytes; return those of the body."""
        pieces: list[bytes] = []
        place, end, lines = 0, len(data), 0
        while place < end and not self.broken and not self.complete:
            if self._left or (self._next is _Line.DATA_END and not self._line):
                place = self._feed_data(data, place, pieces)
            if place < end and not self._left:
                place = self._feed_line(data, place)
                lines += 1
        self.steps = len(pieces) + 4 * lines
        self.excess = self.excess or (place < end and self.complete)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _feed_data(self, data: bytes, place: int, pieces: list[bytes]) -> int:
        """Take chunks framed in the usual way; return the position of what is not."""
        left, end = self._left, len(data)
        while True:
            if left:
                next_place = place + left
                pieces.append(data[place:next_place])
                if next_place > end:
                    self._left = next_place - end
                    return end
                place = next_place
            between = _BETWEEN.match(data, place)
            if between is None:
                between = _ODD_BETWEEN.match(data, place)
                if between is None:
                    self._left, self._next = 0, _Line.DATA_END
                    return place
                self.plain = False
            place = between.end()
            left = int(between[1], 16)
            if left > LARGEST_FILE:
                self._begin(left)
                return place
            if not left:
                self._left, self._next = 0, _Line.TRAILER
                return place

    def _feed_line(self, data: bytes, start: int) -> int:
        """Take a line, or a part of one; return the position after it."""
        found = data.find(b"\n", start)
        end = len(data) if found < 0 else found
        if len(self._line) < LONGEST_CHUNK_LINE:
            self._line += data[start : min(end, start + LONGEST_CHUNK_LINE)]
        if found >= 0:
            line, self._line = self._line, b""
            self._take(line)
        return end + 1

    def _begin(self, size: int) -> None:
        if size > LARGEST_FILE:
            self.beyond = True
            self.broken = f"a chunk of {size} bytes is announced, more than {LARGEST_FILE} can be moved"
            size = 0
        self._left = size
        self._next = _Line.DATA_END if size else _Line.TRAILER

    def _take(self, line: bytes) -> None:
        if self._next is _Line.SIZE:
            self._take_size(line)
            return
        empty = not line.strip(b"\r")
        if empty and line != b"\r":
            self.plain = False
        if self._next is _Line.TRAILER:
            self.complete = empty
        elif empty:
            self._next = _Line.SIZE
        else:
            self.broken = f"expected the end of a chunk, got {told(line.strip())}"

    def _take_size(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None:
            self.plain = False
            match = _ODD_SIZE.fullmatch(line)
        if match is None:
            self.broken = f"expected the size of a chunk, got {told(line.strip())}"
            return
        size = int(match[1] or b"0", 16)
        self._begin(size)
        if size >= IMPOSSIBLE_COUNT:
            self.broken = f"expected the size of a chunk, got {told(line.strip())}"
