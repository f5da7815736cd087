"""A large file read over several connections at once, in order, where one alone is what holds it up.

It begins as one stream. Where that is waited for most of the time, and the server gives out ranges of a file that it
can tell from a changed one, what comes next is asked for in segments (RFC 9110, section 14), on more connections, as
long as each step is faster than the one before. What is held of segments has a bound that all files share.
"""

from collections import deque
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from datamover.concurrency.buffer_budgets import Buffers
from datamover.errors import Scope, SizeMismatch
from datamover.protocols.base import Inspection, Octets, Source
from datamover.protocols.http.client.body import Content
from datamover.protocols.http.streams import Join

LEAST = 2**20
"""Bytes of a segment below which more connections are no gain."""
SEGMENTS = Buffers(32 * 2**20, least=LEAST, most=8 * 2**20)
"""Bytes of the segment that each connection brings at a time."""
WORTH = 64 * 2**20
"""Bytes from which on a file may be worth more than one connection."""
PERIOD = 0.5
"""Seconds between two looks at the speed."""
WAITED = 0.7
"""Share of the time from which on the stream is what is waited for."""
GAIN = 1.1
"""What a step has to bring for another one to be taken."""

OpenRange = Callable[[int, int], Awaitable[Content]]
"""Asks for so many bytes from an offset on; raises errors of the family, SourceChanged among them."""


class RangedSource:
    """``protocols.base.Source`` of a file whose server gives out ranges."""

    def __init__(self, stream: Source, size: int, open_range: OpenRange, clock: IReactorTime, join: Join) -> None:
        """Read ``stream``, to ``size``; ``join`` has a share of its host's connections."""
        self._stream = stream
        self._size = size
        self._open_range = open_range
        self._clock = clock
        self._position = stream.offset
        self._single = True
        """The stream is read; else the segments are."""
        self._segments: deque[_Segment] = deque()
        """What comes next, without a gap, behind the stream while that is read."""
        self._lanes = 1
        self._growing = True
        self._share = join(self._unused)
        self._leave: list[Callable[[], None]] = [self._share.leave]
        """The share, and a part of the memory for each connection."""
        self._since = clock.seconds()
        self._came = 0
        """Bytes since then, read or not."""
        self._waited = 0.0
        """Seconds since then that were spent waiting for bytes."""
        self._rate = 0.0
        """Bytes a second before the last step."""

    @property
    def inspection(self) -> Inspection:
        return self._stream.inspection

    @property
    def offset(self) -> int:
        return self._stream.offset

    async def read(self) -> Octets:
        """Return the next bytes, b"" at the end.

        Raises what ``WebSource.read`` raises, and SourceChanged where a range turns out to be another file's.
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
        """Let go of every connection; completes when that is done."""
        for leave in self._leave:
            leave()
        await self._stream.close()
        await self._drop_segments()

    async def _next(self) -> Octets:
        if self._single and self._segments and self._position == self._segments[0].start:
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
        """Leave the stream for the segments, if the first of them comes; else stay with it for good."""
        if await self._segments[0].coming():
            await self._stream.close()
            self._single = False
            self._fill()
        else:
            self._growing, self._lanes = False, 1
            await self._drop_segments()

    async def _drop_segments(self) -> None:
        segments, self._segments = self._segments, deque()
        for closing in [Deferred.fromCoroutine(segment.close()) for segment in segments]:
            await closing

    def _count(self, size: int) -> None:
        self._came += size

    # More connections -----------------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        """See how fast it went since the last look, and whether more connections may be faster."""
        seconds = now - self._since
        rate, waited = self._came / seconds, self._waited / seconds
        self._since, self._came, self._waited = now, 0, 0.0
        changing_over = self._single and self._segments
        if not self._growing or changing_over:
            return
        if rate < GAIN * self._rate:
            self._growing = False
        elif waited >= WAITED and self._widen():
            self._rate = rate

    def _unused(self) -> int:
        """Return how many of its connections wait for their turn: what they brought is not read yet."""
        return max(0, self._lanes - self._single - sum(segment.receiving for segment in self._segments))

    def _widen(self) -> bool:
        """Read over twice as many connections, if the host may have them, and the rest is worth it; tell whether so."""
        more = min(self._lanes, self._share.room())
        if more <= 0 or SEGMENTS.size <= LEAST or self._size - self._position < WORTH:
            return False
        self._lanes += more
        self._leave += [SEGMENTS.join() for _ in range(1 + self._lanes - len(self._leave))]
        self._fill()
        return True

    def _fill(self) -> None:
        """Have as many segments under way as there are connections; the stream is one while it is read."""
        for segment in list(self._segments)[1:]:
            if segment.refused():
                # No more connections are given, or not now. What is missing is asked for again when it is its turn.
                self._growing, self._lanes = False, max(1, self._lanes - 1)
        while len(self._segments) < self._lanes - self._single:
            start = self._segments[-1].end if self._segments else self._position + self._single * SEGMENTS.size
            size = min(SEGMENTS.size, self._size - start)
            if size <= 0:
                return
            self._segments.append(_Segment(start, size, self._open_range, self._count))
            self._segments[-1].begin()


class _Segment:
    """A range of the file that comes in, and is read once."""

    def __init__(self, start: int, size: int, open_range: OpenRange, came: Callable[[int], None]) -> None:
        """``came`` is told of what comes, in bytes."""
        self.start = start
        self._size = size
        self._open_range = open_range
        self._came = came
        self._pieces: deque[bytes] = deque()
        self._received = 0
        self._answered = self._ended = False
        self._error: Exception | None = None
        self._tried_again = False
        self._counted = False
        self._receiving: Deferred[None] | None = None
        self._waiters: list[Deferred[None]] = []

    @property
    def end(self) -> int:
        return self.start + self._size

    @property
    def receiving(self) -> bool:
        """Tell whether it uses a connection."""
        return self._receiving is not None and not self._receiving.called

    def begin(self) -> None:
        """Ask for what did not come yet."""
        self._error = None
        self._receiving = Deferred.fromCoroutine(self._receive())

    def refused(self) -> bool:
        """Tell, once, whether it did not come."""
        refused = self._error is not None and not self._counted
        self._counted = self._counted or refused
        return refused

    async def coming(self) -> bool:
        """Wait until the server has answered; tell whether it sends the range."""
        while not self._answered and self._error is None:
            await self._wait()
        return self._error is None

    async def read(self) -> bytes:
        """Return the next bytes, b"" at the end; what breaks off is asked for once more before its error is raised."""
        while not self._pieces:
            if self._error is not None:
                if self._tried_again:
                    raise self._error
                self._tried_again = True
                self.begin()
            elif self._ended:  # And not before its connection can serve the next.
                return b""
            else:
                await self._wait()
        return self._pieces.popleft()

    async def close(self) -> None:
        """Let go of the connection; completes when that is done."""
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
            self._wake()
            while data := await body.read():
                self._take(data)
            self._check_whole()
            self._ended = True
        except Exception as error:  # Whatever it is, it is for who reads.
            self._error = error
        finally:
            if body is not None:
                await body.close()
        self._wake()

    def _take(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self._size:
            self._tried_again = True
            raise SizeMismatch(f"more came than the range of {self._size} bytes", scope=Scope.SOURCE)
        self._tried_again = False
        self._came(len(data))
        self._pieces.append(data)
        self._wake()

    def _check_whole(self) -> None:
        if self._received < self._size:
            raise SizeMismatch(f"a range of {self._size} bytes ended after {self._received}", scope=Scope.SOURCE)

    async def _wait(self) -> None:
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.called:
                waiter.callback(None)
