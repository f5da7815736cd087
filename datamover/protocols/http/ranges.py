"""A large file read over several connections, in order, if one connection is the bottleneck.

It begins as one stream: of the whole file, or of its first bytes where the server is known to serve ranges; then some
more connections are used at once. If the reader mostly waits, and the server serves ranges under a strong validator,
the following bytes are requested in segments (RFC 9110, section 14) over more connections, as long as each increase
makes it faster; the last one is taken back, because fewer connections get larger segments, of which each costs the
server a request. All files together buffer a bounded number of bytes.
"""

import random
from collections import deque
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from datamover.concurrency.buffer_budgets import Buffers
from datamover.concurrency.waiters import Waiters
from datamover.errors import RateLimited, Scope, SizeMismatch
from datamover.protocols.again import pause_before
from datamover.protocols.base import Inspection, Octets, Source
from datamover.protocols.http.client.body import BodyStream
from datamover.protocols.http.streams import Join
from datamover.text.quantities import count

LEAST = 2**20
"""Bytes; with smaller segments more connections gain nothing."""
SEGMENTS = Buffers(64 * 2**20, least=LEAST, most=16 * 2**20)
"""Bytes of a segment, shared among all files."""
WORTH = 64 * 2**20
"""Bytes; smaller rests of a file use one connection."""
PERIOD = 0.5
"""Seconds between two measurements of the speed."""
WAITED = 0.7
"""Fraction of the time spent waiting for bytes, from which on the connection is the bottleneck."""
BEGINNING = 4
"""Connections of a file that begins with its first bytes."""
GAIN = 1.1
"""Factor by which an increase must be faster: else it is taken back, and none follows."""
FEWEST = 2
"""Connections that are left of an increase that is taken back: with one, the server would idle between two segments."""

OpenRange = Callable[[int, int], Awaitable[BodyStream]]
"""Requests a range (offset, number of bytes); raises DataMoverError, such as SourceChanged."""


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
        """True while the stream is read, then False: the segments are."""
        self._segments: deque[_Segment] = deque()
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
            if data := await self._segments[0].read():
                return data
            self._segments.popleft()
            self._fill()
        return b""

    async def _change_over(self) -> None:
        """Switch from the stream to the segments if the server sends the first one; else keep the stream to its end."""
        if self._position == self._ends or await self._segments[0].coming():
            await self._stream.close()
            self._single = False
            self._begin_period(self._clock.seconds())
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
            size = min(SEGMENTS.size, self._size - start)
            if size <= 0:
                return
            self._segments.append(_Segment(start, size, self._open_range, self._count, self._clock))
            self._segments[-1].begin()

    def _begins(self) -> int:
        """Return where the first segment begins: while the stream is read, a segment further, or where it ends."""
        return min(self._position + SEGMENTS.size, self._ends) if self._single else self._position


class _Segment:
    """A range of the file, received in the background and read once."""

    def __init__(
        self, start: int, size: int, open_range: OpenRange, came: Callable[[int], None], clock: IReactorTime
    ) -> None:
        """``came`` is called with the number of bytes received."""
        self.start = start
        self._size = size
        self._open_range = open_range
        self._came = came
        self._clock = clock
        self._pieces: deque[bytes] = deque()
        self._received = 0
        self._answered = self._ended = False
        self._error: Exception | None = None
        self._tries = 0
        """Requests that failed since bytes came last."""
        self._counted = False
        self._receiving: Deferred[None] | None = None
        self._changed: Waiters[None] = Waiters()

    @property
    def end(self) -> int:
        return self.start + self._size

    @property
    def receiving(self) -> bool:
        """Whether it uses a connection."""
        return self._receiving is not None and not self._receiving.called

    def begin(self) -> None:
        """Request the bytes that are missing."""
        self._error = None
        self._receiving = Deferred.fromCoroutine(self._receive())

    def refused(self) -> bool:
        """Tell whether its request failed; True once only."""
        refused = self._error is not None and not self._counted
        self._counted = self._counted or refused
        return refused

    async def coming(self) -> bool:
        """Wait for the server's answer; return whether it sends the range."""
        while not self._answered and self._error is None:
            await self._changed.wait()
        return self._error is None

    async def read(self) -> bytes:
        """Return the next bytes, b"" at the end.

        What fails is requested once more before its error is raised, and after pauses where the server asks for them.
        """
        while not self._pieces:
            if self._error is not None:
                pause = self._pause()
                if pause is None:
                    raise self._error
                if pause:
                    await deferLater(self._clock, pause)
                self.begin()
            elif self._ended:  # Its connection is then free for the next one.
                return b""
            else:
                await self._changed.wait()
        return self._pieces.popleft()

    def _pause(self) -> float | None:
        """Return the seconds to wait before the bytes that are missing are requested again, None: they are not."""
        self._tries += 1
        if isinstance(self._error, RateLimited):
            return pause_before(self._tries, self._error, random.random)
        return 0.0 if self._tries == 1 else None

    async def close(self) -> None:
        """Release the connection. Completes when that is done."""
        self._pieces.clear()
        if self._receiving is not None:
            ended: Deferred[None] = Deferred()
            self._receiving.addBoth(lambda _: ended.callback(None))
            self._receiving.cancel()
            await ended

    async def _receive(self) -> None:
        body = None
        try:
            body = await self._open_range(self.start + self._received, self._size - self._received)
            self._answered = True
            self._changed.wake(None)
            while data := await body.read():
                self._take(data)
            self._check_whole()
            self._ended = True
        except Exception as error:  # ``read`` raises it.
            self._error = error
        finally:
            if body is not None:
                await body.close()
        self._changed.wake(None)

    def _take(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self._size:
            self._tries = 1
            raise SizeMismatch(f"more came than the range of {count(self._size, 'byte')}", scope=Scope.SOURCE)
        self._tries = 0
        self._came(len(data))
        self._pieces.append(data)
        self._changed.wake(None)

    def _check_whole(self) -> None:
        if self._received < self._size:
            raise SizeMismatch(
                f"a range of {count(self._size, 'byte')} ended after {self._received}", scope=Scope.SOURCE
            )
