"""When one file is read over more connections, and when not: on a clock that stands still until it is told."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from datamover.concurrency.buffer_budgets import Buffers
from datamover.errors import RateLimited, ServerError
from datamover.protocols.base import Inspection
from datamover.protocols.http import ranges
from datamover.protocols.http.answers import ContentRange
from datamover.protocols.http.ranges import RangedSource
from datamover.protocols.http.segments import RangeLength
from datamover.protocols.http.streams import StreamShare
from tests.unit.outcomes import failure

PIECE = 2**16
SIZE = 40 * 2**20
PATIENCE = 600.0
"""Seconds on its clock that a file may take."""
CONTENT = bytes(range(251)) * (SIZE // 251 + 1)


class Server:
    """Sends a piece over each connection every ``pace`` seconds."""

    def __init__(self, clock: Clock, size: int = SIZE) -> None:
        self.clock = clock
        self.size = size
        self.pace = 0.01
        self.paces = [1.0]
        """How much slower each connection is, in turn."""
        self.wide = 100
        """Connections beyond these share their speed."""
        self.open: list[Bytes] = []
        self.asked = 0
        """Connections that are not open yet."""
        self.most = 0
        self.began = 0
        """Connections within the first tenth of a second."""
        self.given = 100
        """Ranges that are given out before one is refused."""
        self.lengths: list[int] = []
        """Bytes of each range that was asked for."""
        self.block = 1
        """Ranges are given in whole blocks of so many bytes,"""
        self.cap = 2**40
        """and are no longer than this."""
        self.busy_until: float | None = None
        """Seconds on the clock until which fewer requests are asked for then."""
        self.refused = 0
        self.sent = self.held = 0
        """Bytes that were sent, and of these the most that were not read."""

    def stream(self, start: int, end: int) -> "Bytes":
        self.paces.append(self.paces.pop(0))
        sent = Bytes(self, start, end, self.pace * self.paces[-1])
        self.open.append(sent)
        self.most = max(self.most, len(self.open) + self.asked)
        return sent

    async def open_range(self, start: int, length: int) -> tuple[ContentRange, "Bytes"]:
        answered: Deferred[None] = Deferred()
        self.clock.callLater(self.pace, answered.callback, None)
        self.asked += 1
        self.lengths.append(length)
        if self.clock.seconds() < 0.1:
            self.began = max(self.began, len(self.open) + self.asked)
        try:
            await answered
        finally:
            self.asked -= 1
        self.given -= 1
        if self.given < 0 and self.busy_until is not None:
            self.refused += 1
            if self.clock.seconds() < self.busy_until:
                raise RateLimited("not now")
        elif self.given < 0:
            raise ServerError("no more")
        first, end = start // self.block * self.block, min(start + length, start + self.cap)
        end = min(self.size, -(-end // self.block) * self.block)
        return ContentRange(first, end - 1, self.size), self.stream(first, end)


class Bytes:
    """A body, or the file as one stream."""

    def __init__(self, server: Server, start: int, end: int, pace: float) -> None:
        self._server = server
        self._pace = pace
        self.offset = self._position = start
        self._end = end
        self.inspection = Inspection("f", server.size, 'tag "1"')

    async def read(self) -> bytes:
        if self._position == self._end:
            return b""
        came: Deferred[None] = Deferred()
        slowed = max(1.0, len(self._server.open) / self._server.wide)
        self._server.clock.callLater(self._pace * slowed, came.callback, None)
        await came
        start, self._position = self._position, min(self._end, self._position + PIECE)
        self._server.sent += self._position - start
        return CONTENT[start : self._position]

    async def close(self) -> None:
        if self in self._server.open:
            self._server.open.remove(self)


def read(
    server: Server, *, room: int = 4, pause: float = 0.0, begins: int | None = None
) -> tuple[bytes, BaseException | None]:
    """Read a file to its end or its error; the reader takes ``pause`` seconds with each piece.

    ``begins``: bytes of the first answer, None for the whole file.
    """
    ends = server.size if begins is None else begins
    source = RangedSource(
        server.stream(0, ends),
        ends,
        server.size,
        server.open_range,  # type: ignore[arg-type]
        server.clock,
        lambda unused: StreamShare(lambda: room - len(server.open) - server.asked - unused(), lambda: None),
    )
    received = bytearray()

    async def to_the_end() -> None:
        try:
            while data := await source.read():
                received.extend(data)
                server.held = max(server.held, server.sent - len(received))
                waiting: Deferred[None] = Deferred()
                server.clock.callLater(pause, waiting.callback, None)
                await waiting
        finally:
            await source.close()

    done = Deferred.fromCoroutine(to_the_end())
    while not done.called:
        assert server.clock.seconds() < PATIENCE
        server.clock.advance(0.001)
    assert not server.open
    return bytes(received), failure(done)


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files of some megabytes be worth it."""
    monkeypatch.setattr(ranges, "WORTH", 4 * 2**20)
    monkeypatch.setattr(ranges, "SEGMENTS", Buffers(16 * 2**20, least=ranges.LEAST, most=2**21))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)


def test_more_while_each_step_is_faster() -> None:
    """Twice as many connections each time, to as many as there may be; the file is whole, and sooner there."""
    server = Server(Clock())
    assert read(server, room=6) == (CONTENT[:SIZE], None)
    assert server.most == 6
    alone = Server(Clock())
    assert read(alone, room=1) == (CONTENT[:SIZE], None)
    assert alone.most == 1
    assert server.clock.seconds() < alone.clock.seconds() / 2


@given(
    room=st.integers(min_value=2, max_value=6),
    paces=st.lists(st.floats(min_value=0.3, max_value=8), min_size=1, max_size=7),
)
@example(room=4, paces=[1.0, 4.0, 0.3, 0.3, 0.3, 0.3])
@settings(max_examples=20)
def test_never_more_than_there_may_be(room: int, paces: list[float]) -> None:
    """A connection that brought its part, while a slower one is waited for, makes no room for another."""
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        server = Server(Clock())
        server.paces = paces
        assert read(server, room=room) == (CONTENT[:SIZE], None)
    assert server.most <= room


def test_no_more_where_they_are_no_faster() -> None:
    """Connections that share one speed do not become more than two."""
    server = Server(Clock())
    server.wide = 1
    assert read(server) == (CONTENT[:SIZE], None)
    assert server.most == 2


def test_an_increase_that_brings_nothing_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more connections are no faster, ranges are as few and as large again as before."""
    monkeypatch.setattr(ranges, "SEGMENTS", Buffers(8 * 2**20, least=ranges.LEAST, most=2**21))
    monkeypatch.setattr(ranges, "PERIOD", 0.25)
    server = Server(Clock())
    server.wide = 4
    assert read(server, room=8, begins=2**21) == (CONTENT[:SIZE], None)
    assert server.most == 8
    assert server.lengths[:3] == [2**21] * 3
    smaller = server.lengths.index(2**20)
    assert 4 <= server.lengths.count(2**20) <= 12
    assert set(server.lengths[smaller + 12 : -1]) == {2**21}
    assert not ranges.SEGMENTS._streams


def test_not_for_a_slow_reader() -> None:
    """A reader who takes his time is served by one."""
    server = Server(Clock())
    assert read(server, pause=0.02) == (CONTENT[:SIZE], None)
    assert server.most == 1


def test_not_for_a_small_rest() -> None:
    """What is nearly there is not worth another connection."""
    server = Server(Clock(), size=4 * 2**20)
    assert read(server) == (CONTENT[: 4 * 2**20], None)
    assert server.most == 1


def test_not_where_all_share_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where segments would be small, since many files are read so, there are no more."""
    monkeypatch.setattr(ranges, "SEGMENTS", Buffers(2**20, least=ranges.LEAST, most=2**21))
    server = Server(Clock())
    assert read(server) == (CONTENT[:SIZE], None)
    assert server.most == 1


@given(given=st.integers(min_value=0, max_value=8))
def test_whatever_is_refused(given: int) -> None:
    """The file arrives whole if no range is ever given; if no further one is, what came is its beginning."""
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        server = Server(Clock())
        server.given = given
        received, error = read(server)
    if given:
        assert isinstance(error, ServerError)
        assert CONTENT.startswith(received)
    else:
        assert (received, error) == (CONTENT[:SIZE], None)


def test_begun_in_ranges() -> None:
    """A file of which the beginning came has more connections at once, as many as there may be; it is whole."""
    for room, most in ((6, 4), (2, 2)):
        server = Server(Clock())
        assert read(server, room=room, begins=2**20) == (CONTENT[:SIZE], None)
        assert server.began == most
    small_rest = Server(Clock(), size=2**20 + 1)
    assert read(small_rest, begins=2**20) == (CONTENT[: 2**20 + 1], None)


@pytest.mark.parametrize(("seconds", "whole"), [(2.0, True), (30.0, False)])
def test_fewer_requests_asked_for(seconds: float, whole: bool) -> None:
    """What a server refuses because it is asked too much is asked for again after pauses, and not for ever."""
    server = Server(Clock())
    server.given, server.busy_until = 3, seconds
    content, error = read(server, begins=2**21)
    assert (content == CONTENT[:SIZE], error is None) == (whole, whole)
    assert server.refused < 30


@pytest.mark.parametrize(("block", "cap"), [(1, 700_001), (300_000, 2**40), (300_000, 300_000), (2**16, 1)])
def test_capped_and_shifted_ranges(block: int, cap: int) -> None:
    """Where a server gives less than is asked for, or whole blocks, the file is whole all the same, at one attempt."""
    server = Server(Clock())
    server.block, server.cap, server.given = block, cap, 10_000
    assert read(server, begins=2**20) == (CONTENT[:SIZE], None)


def test_fewer_requests_for_a_slow_reader() -> None:
    """Where one connection brings more than is read, ranges are longer than what is held of each."""
    server = Server(Clock())
    server.pace = 0.0001
    assert read(server, pause=0.001, begins=2**20) == (CONTENT[:SIZE], None)
    assert server.lengths[:3] == [2**21] * 3
    assert max(server.lengths) == 2**23
    assert server.held <= 4 * (2**21 + PIECE)


def test_a_range_as_fast_as_those_before_it_is_long_enough() -> None:
    """A long range that is waited for is no loss if it comes as fast as shorter ones; one that is slower is."""
    for speed, longer in ((1.0, True), (0.5, False)):
        length = RangeLength()
        asked = []
        for _ in range(4):
            asked.append(length.next())
            length.was_read(1, 10**8, 1.0, 0.5)
        assert asked == [1, 2, 1, 1]
        length.was_read(2, 2 * 10**8, 2.0 / speed, 1.5 / speed)
        assert max(length.next() for _ in range(4)) == (4 if longer else 1)


def test_no_long_ranges_where_connections_are_slow() -> None:
    """Where a reader waits for the connections, each brings as much of the file as is held of it."""
    server = Server(Clock())
    server.pace = 0.002
    assert read(server, begins=2**20) == (CONTENT[:SIZE], None)
    assert max(server.lengths) == 2**21


@given(given=st.integers(min_value=0, max_value=30))
def test_whatever_is_refused_behind_the_beginning(given: int) -> None:
    """What came is the beginning of the file, and why there is no more is told."""
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        server = Server(Clock())
        server.given = given
        received, error = read(server, begins=2**20)
    assert CONTENT.startswith(received)
    assert isinstance(error, ServerError) or received == CONTENT[:SIZE]
    assert len(received) >= 2**20
