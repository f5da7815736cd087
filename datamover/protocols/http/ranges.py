"""A large file read over several connections, in order, if one connection is the bottleneck.

It begins as one stream: of the whole file, or of its first bytes where the server is known to serve ranges; then some
more connections are used at once. If the reader mostly waits, and the server serves ranges under a strong validator,
the following bytes are requested in segments (RFC 9110, section 14) over more connections, as long as each increase
makes it faster. An increase that does not is taken back: fewer connections get larger segments, and each segment costs
the server a request. All files together buffer a bounded number of bytes.
"""

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from datamover.concurrency.buffer_budgets import Buffers
from datamover.protocols.base import Inspection, Octets, Source
from datamover.protocols.http.segments import WAITED, OpenRange, RangeLength, Segment
from datamover.protocols.http.streams import Join

LEAST = 2**20
"""Bytes; with smaller segments more connections gain nothing."""
SEGMENTS = Buffers(64 * 2**20, least=LEAST, most=16 * 2**20)
"""Bytes that a segment holds, shared among all files."""
WORTH = 64 * 2**20
"""Bytes; smaller rests of a file use one connection."""
PERIOD = 0.5
"""Seconds between two measurements of the speed."""
BEGINNING = 4
"""Connections of a file that begins with its first bytes."""
GAIN = 1.1
"""Factor by which an increase must make it faster; otherwise it is taken back, and none follows."""
FEWEST = 2
"""Least connections after an increase is taken back: with one, the server would idle between two segments."""


def first_range() -> int:
    """Return the bytes of a file that are requested first where the server is known to serve ranges."""
    return SEGMENTS.size


class RangedSource:
    """``protocols.base.Source`` of a file whose server serves ranges."""

    def __init__(
        self, stream: Source, ends: int, size: int, open_range: OpenRange, clock: IReactorTime, join: Join
    ) -> None:
        """Read ``stream``, which ends at ``ends``, and the rest of the file of ``size`` bytes.

        ``join`` returns the file's share of its host's connections.
        """
        self._stream = stream
        self._ends = ends
        self._size = size
        self._open_range = open_range
        self._clock = clock
        self._position = stream.offset
        self._single = True
        """True while the stream is read, False once the segments are."""
        self._segments: deque[Segment] = deque()
        """The following segments, without a gap; the first follows the stream while that is read."""
        self._connections = 1
        self._growing = True
        self._share = join(self._unused)
        self._leave: list[Callable[[], None]] = [self._share.leave]
        """Call these to give back the share and each connection's part of the memory."""
        self._since = clock.seconds()
        self._came = 0
        """Bytes received since then."""
        self._waited = 0.0
        """Seconds spent waiting for bytes since then."""
        self._length = RangeLength()
        self._head_since = self._since
        """When the first segment became the first."""
        self._head_waited = 0.0
        """Seconds spent waiting for its bytes."""
        self._rate = 0.0
        """Bytes a second before the last increase."""
        self._before = 1
        """Connections before it."""
        if ends < size:
            self._add(min(BEGINNING - 1, self._share.room()))

    @property
    def inspection(self) -> Inspection:
        return self._stream.inspection

    @property
    def offset(self) -> int:
        return self._stream.offset

    async def read(self) -> Octets:
        """Return the next bytes, b"" at the end.

        Raises what ``WebSource.read`` raises, and SourceChanged if a range belongs to another file. Cancelling leaves
        the source fit only for ``close``.
        """
        began = self._clock.seconds()
        data = await self._next()
        now = self._clock.seconds()
        self._waited += now - began
        self._position += len(data)
        if now - self._since >= PERIOD:
            self._look(now)
        return data

    async def close(self) -> None:
        """Release every connection. Completes when that is done."""
        for leave in self._leave:
            leave()
        await self._stream.close()
        await self._drop_segments()

    async def _next(self) -> Octets:
        following = self._segments[0].start if self._segments else self._ends
        if self._single and self._position == following < self._size:
            await self._change_over()
        if self._single:
            data = await self._stream.read()
            self._count(len(data))
            return data[: self._segments[0].start - self._position] if self._segments else data
        while self._segments:
            began = self._clock.seconds()
            data = await self._segments[0].read()
            now = self._clock.seconds()
            self._head_waited += now - began
            if data:
                return data
            read = self._segments.popleft()
            self._length.was_read(read.shares, read.size, now - self._head_since, self._head_waited)
            self._head_since, self._head_waited = now, 0.0
            self._fill()
        return b""

    async def _change_over(self) -> None:
        """Switch from the stream to the segments if the server sends the first one; else keep the stream to its end."""
        if self._position == self._ends or await self._segments[0].coming():
            await self._stream.close()
            self._single = False
            self._begin_period(self._clock.seconds())
            self._head_since = self._since
            self._fill()
        else:
            self._growing = False
            self._limit(1)
            await self._drop_segments()

    async def _drop_segments(self) -> None:
        segments, self._segments = self._segments, deque()
        for closing in [Deferred.fromCoroutine(segment.close()) for segment in segments]:
            await closing

    def _count(self, size: int) -> None:
        self._came += size

    # More connections -----------------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        """Measure the speed since the last time, and decide whether to use more connections, or fewer."""
        seconds = now - self._since
        rate, waited = self._came / seconds, self._waited / seconds
        self._begin_period(now)
        changing_over = self._single and self._segments
        if not self._growing or changing_over:
            return
        if rate < GAIN * self._rate:
            self._growing = False
            self._limit(max(FEWEST, self._before))
        elif waited >= WAITED and self._widen():
            self._rate = rate

    def _begin_period(self, now: float) -> None:
        self._since, self._came, self._waited = now, 0, 0.0

    def _unused(self) -> int:
        """Return how many of the file's connections are idle: their segment is received and not read yet."""
        return max(0, self._connections - self._single - sum(segment.receiving for segment in self._segments))

    def _widen(self) -> bool:
        """Double the connections, if the share allows it and the rest is large; return whether any was added."""
        more = min(self._connections, self._share.room())
        if more <= 0 or SEGMENTS.size <= LEAST or self._size - self._position < WORTH:
            return False
        self._before = self._connections
        self._add(more)
        return True

    def _limit(self, connections: int) -> None:
        """Use no more connections than these, once the segments that were requested are read."""
        self._connections = min(self._connections, connections)
        while len(self._leave) > 1 + self._connections:
            self._leave.pop()()

    def _add(self, connections: int) -> None:
        self._connections += max(0, connections)
        self._leave += [SEGMENTS.join() for _ in range(1 + self._connections - len(self._leave))]
        self._fill()

    def _fill(self) -> None:
        """Request as many segments as there are connections; the stream counts as one while it is read."""
        for segment in list(self._segments)[1:]:
            if segment.refused():
                # The server gives no more connections. The segment is requested again when it is its turn.
                self._growing = False
                self._limit(max(1, self._connections - 1))
        while len(self._segments) < self._connections - self._single:
            start = self._segments[-1].end if self._segments else self._begins()
            if start >= self._size:
                return
            shares = self._length.next()
            size = min(SEGMENTS.size * shares, self._size - start)
            segment = Segment(start, size, shares, self._open_range, _room, self._count, self._clock)
            self._segments.append(segment)
            segment.begin()

    def _begins(self) -> int:
        """Return where the first segment begins: while the stream is read, a segment further, or where it ends."""
        return min(self._position + SEGMENTS.size, self._ends) if self._single else self._position


def _room() -> int:
    return SEGMENTS.size
