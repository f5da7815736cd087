"""A range of a file that is received while what is before it is read.

A server may answer with fewer bytes than were asked for, or with whole blocks around them: what is missing is asked for
again, and what is too much is dropped.

Each range costs the server a request: Swift 10 ms of a processor, as much as reading 5 MB. A range may be longer than
what is held of it in memory: the rest is then received as it is read, over its connection alone, while the connections
of the ranges behind it wait. That loses nothing if the reader is the bottleneck, which one long range finds out.
"""

import random
from collections import deque
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from datamover.concurrency.waiters import Waiters
from datamover.errors import RateLimited, Scope, SizeMismatch
from datamover.protocols.again import pause_before
from datamover.protocols.http.answers import ContentRange
from datamover.protocols.http.client.body import BodyStream
from datamover.text.quantities import count

LONGEST = 4
"""The length of the longest range, in shares of the memory that a range has."""
WAITED = 0.7
"""Fraction of the time spent waiting for bytes from which on the connections are the bottleneck."""
HELD_UP = 0.15
"""Fraction of its time that the reader may wait for a long range, unless that is as fast as the ranges before it."""
AS_FAST = 0.9
"""Fraction of the speed of the ranges before it; if a processor is busy, the reader waits for all of them."""
FAST = 32e6
"""Bytes a second. At this speed a connection waits for 8 s; servers close those that wait for long."""
PAUSE = 8
"""Ranges between a long one that held the reader up and the next trial; doubled each time."""
_KEPT = 0.75
"""The weight of what was measured of earlier ranges beside the last one."""

OpenRange = Callable[[int, int], Awaitable[tuple[ContentRange, BodyStream]]]
"""Requests a range (offset, number of bytes), and returns the part of the file that was answered, with its bytes.

The part has the first of the bytes that were asked for, if not all. Raises DataMoverError, such as SourceChanged."""


class Segment:
    """A range of the file, received in the background and read once."""

    def __init__(
        self,
        start: int,
        size: int,
        shares: int,
        open_range: OpenRange,
        room: Callable[[], int],
        came: Callable[[int], None],
        clock: IReactorTime,
    ) -> None:
        """``room`` returns the bytes that it may hold; ``came`` is called with the number of bytes received.

        ``shares``: how many times as long it is as what it may hold.
        """
        self.start = start
        self.size = size
        self.shares = shares
        self._open_range = open_range
        self._room = room
        self._came = came
        self._clock = clock
        self._pieces: deque[bytes] = deque()
        self._held = 0
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
        return self.start + self.size

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
            elif self._ended:
                return b""
            else:
                await self._changed.wait()
        data = self._pieces.popleft()
        self._held -= len(data)
        self._changed.wake(None)
        return data

    def _pause(self) -> float | None:
        """Return the seconds to wait before the bytes that are missing are requested again, None: they are not."""
        self._tries += 1
        if isinstance(self._error, RateLimited):
            return pause_before(self._tries, self._error, random.random)
        return 0.0 if self._tries == 1 else None

    async def close(self) -> None:
        """Release the connection. Completes when that is done."""
        self._pieces.clear()
        self._held = 0
        if self._receiving is not None:
            ended: Deferred[None] = Deferred()
            self._receiving.addBoth(lambda _: ended.callback(None))
            self._receiving.cancel()
            await ended

    async def _receive(self) -> None:
        try:
            while self._received < self.size:
                await self._receive_part()
            self._ended = True
        except Exception as error:  # ``read`` raises it.
            self._error = error
        self._changed.wake(None)

    async def _receive_part(self) -> None:
        """Receive what one answer has of the bytes that are missing: some servers give fewer than are asked for.

        What it has before them, or behind them, is dropped: some servers give whole blocks.
        """
        wanted = self.start + self._received
        part, body = await self._open_range(wanted, self.size - self._received)
        try:
            self._answered = True
            self._changed.wake(None)
            at = part.first
            while at <= part.last and self._received < self.size:
                data = await body.read()
                at += len(data)
                if not data or at > part.last + 1:
                    raise self._other_length(part, at - part.first)
                self._take(data[max(0, wanted - at + len(data)) :])
                while self._held >= self._room() and self._received < self.size:
                    await self._changed.wait()
            # Reading to the end frees the connection for the next range.
            if at > part.last and (data := await body.read()):
                raise self._other_length(part, at - part.first + len(data))
        finally:
            await body.close()

    def _other_length(self, part: ContentRange, came: int) -> SizeMismatch:
        told = part.last - part.first + 1
        if came > told:
            self._tries = 1
            return SizeMismatch(f"more came than the range of {count(told, 'byte')}", scope=Scope.SOURCE)
        return SizeMismatch(f"a range of {count(told, 'byte')} ended after {came}", scope=Scope.SOURCE)

    def _take(self, data: bytes) -> None:
        data = data[: self.size - self._received]
        if not data:
            return
        self._received += len(data)
        self._tries = 0
        self._came(len(data))
        self._pieces.append(data)
        self._held += len(data)
        self._changed.wake(None)


class RangeLength:
    """The length of one file's next range, in shares of the memory that a range has."""

    def __init__(self) -> None:
        self._shares = 1
        self._trying = False
        """A range of twice the length was requested, and is not read yet."""
        self._left = 0
        """Ranges that are requested before the next trial."""
        self._pause = PAUSE
        self._bytes = self._seconds = self._waited = 0.0
        """Weighted sums over the last ranges."""

    def next(self) -> int:
        """Return the shares of the range that is requested next."""
        self._left = max(0, self._left - 1)
        smooth = self._waited < WAITED * self._seconds and self._bytes >= FAST * self._seconds
        if self._trying or self._left or not smooth or self._shares >= LONGEST:
            return self._shares
        self._trying = True
        return 2 * self._shares

    def was_read(self, shares: int, size: int, seconds: float, waited: float) -> None:
        """Take into account that reading a range of ``size`` bytes took so many seconds, and waiting for it so many."""
        as_fast = size * self._seconds >= AS_FAST * self._bytes * seconds
        self._bytes = _KEPT * self._bytes + size
        self._seconds = _KEPT * self._seconds + seconds
        self._waited = _KEPT * self._waited + waited
        if shares == 1 or shares < self._shares or (shares > self._shares and not self._trying):
            return  # It was requested before a longer one was found good, or another one held the reader up.
        if (waited <= HELD_UP * seconds or as_fast) and size >= FAST * seconds:
            self._trying = self._trying and shares <= self._shares
            self._shares = max(self._shares, shares)
        else:
            self._trying, self._shares = False, shares // 2
            self._left, self._pause = self._pause, 2 * self._pause
