"""One ordered stream, and the two clocks that watch it."""

import hashlib
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from datamover.config.schema import Transfers
from datamover.engine.lease import Lease, Parked
from datamover.engine.meter import Meter
from datamover.engine.throttle import Throttle
from datamover.engine.transfer.digest import Digest
from datamover.engine.transfer.pipe import BEHIND, CHECKPOINT_BYTES, CHECKPOINT_SECONDS, OnCheckpoint, Pipe
from datamover.errors import ConnectionLost, Scope, Stalled, TooSlow
from datamover.protocols.base import Inspection
from datamover.protocols.upload import Saved
from tests.unit.executors import here
from tests.unit.outcomes import failure
from tests.unit.test_engine_lease import LEADER

SETTINGS = Transfers(idle_timeout=60, min_rate=1000, min_rate_window=300)


class Tap:
    """A source whose bytes come when a test says so."""

    def __init__(self, offset: int = 0) -> None:
        self.inspection = Inspection("tap")
        self.offset = offset
        self._wanted: Deferred[bytes] | None = None

    async def read(self) -> bytes:
        self._wanted = Deferred()
        return await self._wanted

    def give(self, data: bytes) -> None:
        wanted, self._wanted = self._wanted, None
        assert wanted is not None, "nobody reads"
        wanted.callback(data)

    @property
    def wanted(self) -> bool:
        return self._wanted is not None

    async def close(self) -> None:
        """There is nothing to let go of."""


class Basin:
    """A sink that takes everything; ``full`` and ``flushing`` make who calls wait, ``broken`` fails flushes."""

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset
        self.full: Deferred[None] | None = None
        self.flushing: Deferred[None] | None = None
        self.broken = False
        self.watched = False

    async def write(self, data: bytes | bytearray) -> None:
        if self.full is not None:
            await self.full
        self.offset += len(data)

    async def flush(self) -> Saved:
        if self.broken:
            raise ConnectionLost("gone")
        offset = self.offset
        if self.flushing is not None:
            await self.flushing
        return Saved(offset, "part")


class Stream:
    """A pipe between the two, under way."""

    def __init__(self, *, rate: int | None = None, resumable: bool = True) -> None:
        self.clock = Clock()
        self.tap, self.basin = Tap(), Basin()
        self.meter = Meter(1, 1)
        self.lease = Lease(LEADER, 1e9, self.clock.seconds)
        self.kept: list[tuple[int, str]] = []
        keep: OnCheckpoint | None = None
        if resumable:

            def keep(saved: Saved, digest: str) -> None:
                self.kept.append((saved.offset, digest))

        self.digest = Digest(here)
        self.pipe = Pipe(
            source=self.tap,
            sink=self.basin,
            digest=self.digest,
            meter=self.meter,
            lease=self.lease,
            room=None,
            throttle=Throttle(self.clock, rate) if rate else None,
            on_checkpoint=keep,
            clock=self.clock,
            settings=SETTINGS,
        )
        self.pumping: Deferred[Any] = Deferred.fromCoroutine(self.pipe.pump())

    def passes(self, seconds: float) -> None:
        """Let time pass, a second at a time."""
        for _ in range(round(seconds)):
            self.clock.advance(1)


def test_everything_in_order() -> None:
    """Bytes pass until the source ends; the meter follows, the digest is theirs, and no clock ticks on."""
    stream = Stream()
    stream.tap.give(b"one ")
    assert stream.meter.bytes_done == 4
    stream.tap.give(b"two")
    stream.tap.give(b"")
    assert stream.pumping.result == 7
    digests: Any = stream.digest.hexdigests()
    assert digests.result["sha256"] == hashlib.sha256(b"one two").hexdigest()
    assert not stream.clock.getDelayedCalls()


def test_backpressure() -> None:
    """Nothing more is read before the sink has taken what there is."""
    stream = Stream()
    stream.basin.full = Deferred()
    stream.tap.give(b"x")
    assert not stream.tap.wanted
    stream.basin.full.callback(None)
    assert stream.tap.wanted
    stream.pumping.cancel()
    assert isinstance(failure(stream.pumping), CancelledError)


def test_a_source_that_falls_silent() -> None:
    """No byte for idle_timeout ends the stream, and says whose side it was."""
    stream = Stream()
    stream.passes(50)
    stream.tap.give(b"x")
    stream.passes(59)
    assert not stream.pumping.called
    stream.passes(1 + 60 / 4)
    found = failure(stream.pumping)
    assert isinstance(found, Stalled)
    assert found.scope is Scope.SOURCE
    assert "came from the source" in found.message
    assert not stream.clock.getDelayedCalls()


def test_a_destination_that_falls_silent() -> None:
    """A sink that takes nothing is the destination's fault."""
    stream = Stream()
    stream.basin.full = Deferred()
    stream.tap.give(b"x")
    stream.passes(60 + 2 * 60 / 4)
    found = failure(stream.pumping)
    assert isinstance(found, Stalled)
    assert found.scope is Scope.DESTINATION


def test_a_destination_that_watches_itself() -> None:
    """What is on its way to one may take as long as it needs, and counts over all of that time once it has arrived."""
    stream = Stream()
    stream.basin.watched = True
    stream.basin.full = Deferred()
    stream.tap.give(b"x" * 1_000_000)
    stream.passes(900)
    assert not stream.pumping.called
    full, stream.basin.full = stream.basin.full, None
    full.callback(None)
    stream.passes(50)
    assert not stream.pumping.called
    stream.passes(10 + 2 * 60 / 4)
    found = failure(stream.pumping)
    assert isinstance(found, Stalled)
    assert found.scope is Scope.SOURCE


def test_a_trickle_to_one_that_watches_itself() -> None:
    """It is too slow all the same."""
    stream = Stream()
    stream.basin.watched = True
    for _ in range(20):
        if stream.pumping.called:
            break
        stream.basin.full = Deferred()
        stream.tap.give(b"x")
        stream.passes(50)
        stream.basin.full.callback(None)
    assert isinstance(failure(stream.pumping), TooSlow)


def test_a_trickle() -> None:
    """A stream that never stands still and yet stays below min_rate over a whole window ends."""
    stream = Stream()
    for _ in range(315):
        if stream.pumping.called:
            break
        stream.tap.give(b"x" * 999)
        stream.passes(1)
    found = failure(stream.pumping)
    assert isinstance(found, TooSlow)
    assert "999 bytes a second over the last 300 s" in found.message


def test_fast_enough() -> None:
    """At min_rate it goes on, window after window."""
    stream = Stream()
    for _ in range(1000):
        stream.tap.give(b"x" * 1000)
        stream.passes(1)
    stream.tap.give(b"")
    assert stream.pumping.result == 1_000_000


def test_our_own_limit_is_nobodys_fault() -> None:
    """A stream that our rate limit holds below min_rate is neither stalled nor too slow."""
    stream = Stream(rate=100)
    for _ in range(20):
        stream.tap.give(b"x" * 4000)
        stream.passes(40)
    stream.tap.give(b"")
    assert stream.pumping.result == 80_000


def test_a_long_wait_for_our_own_limit() -> None:
    """Not even one wait that is longer than idle_timeout and the window counts."""
    stream = Stream(rate=100)
    stream.tap.give(b"x" * 50_000)
    stream.passes(499)
    assert not stream.pumping.called
    stream.passes(1)
    stream.tap.give(b"")
    assert stream.pumping.result == 50_000


def test_checkpoints_by_bytes() -> None:
    """Every so many bytes what was flushed is told, with its digest."""
    stream = Stream()
    half = b"x" * (CHECKPOINT_BYTES // 2)
    stream.tap.give(half)
    assert not stream.kept
    stream.tap.give(half)
    assert stream.kept == [(CHECKPOINT_BYTES, hashlib.sha256(half + half).hexdigest())]
    stream.tap.give(b"")
    assert stream.pumping.called


def test_checkpoints_by_time() -> None:
    """And every few seconds, with the next bytes."""
    stream = Stream()
    stream.tap.give(b"a")
    stream.passes(CHECKPOINT_SECONDS)
    assert not stream.kept
    stream.tap.give(b"b")
    assert stream.kept == [(2, hashlib.sha256(b"ab").hexdigest())]
    stream.tap.give(b"")
    assert stream.pumping.called


def test_the_stream_goes_on_beside_checkpoints() -> None:
    """Several are made at a time, each told as it was then; far ahead of the last that is made, the stream waits."""
    stream = Stream()
    stream.basin.flushing = Deferred()
    step = b"x" * CHECKPOINT_BYTES
    for _ in range(BEHIND - 1):
        stream.tap.give(step)
        assert stream.tap.wanted
    stream.tap.give(step)
    assert not stream.kept
    assert not stream.tap.wanted
    flushing, stream.basin.flushing = stream.basin.flushing, None
    flushing.callback(None)
    assert [offset for offset, _ in stream.kept] == [number * CHECKPOINT_BYTES for number in range(1, BEHIND + 1)]
    assert [digest for _, digest in stream.kept] == [
        hashlib.sha256(step * number).hexdigest() for number in range(1, BEHIND + 1)
    ]
    stream.tap.give(b"")
    assert stream.pumping.called


def test_never_far_ahead_of_what_is_saved() -> None:
    """However late each checkpoint is made, the stream is never more than so far ahead of the last one."""
    stream = Stream()
    step = b"x" * CHECKPOINT_BYTES
    written = 0
    for _ in range(5):
        flushing = stream.basin.flushing = Deferred()
        while stream.tap.wanted:
            stream.tap.give(step)
            written += len(step)
        saved = stream.kept[-1][0] if stream.kept else 0
        assert written - saved <= BEHIND * CHECKPOINT_BYTES
        flushing.callback(None)
    assert written >= 5 * CHECKPOINT_BYTES
    stream.tap.give(b"")


def test_a_checkpoint_that_fails() -> None:
    """What a flush met ends the stream, at the next bytes or at its end."""
    for last in (b"more", b""):
        stream = Stream()
        stream.basin.flushing = Deferred()
        stream.tap.give(b"x" * CHECKPOINT_BYTES)
        stream.basin.flushing.errback(ConnectionLost("gone"))
        stream.tap.give(last)
        assert isinstance(failure(stream.pumping), ConnectionLost)


def test_cancelled_beside_a_checkpoint() -> None:
    """A stream that is cancelled lets go of its checkpoint too."""
    stream = Stream()
    stream.basin.flushing = Deferred()
    stream.tap.give(b"x" * CHECKPOINT_BYTES)
    stream.pumping.cancel()
    assert isinstance(failure(stream.pumping), CancelledError)
    assert stream.basin.flushing.called
    assert not stream.kept


def test_parking() -> None:
    """A lease that is to be parked ends the stream after the chunk that is under way; rescue keeps what arrived."""
    stream = Stream()
    stream.lease.park()
    stream.tap.give(b"abc")
    assert isinstance(failure(stream.pumping), Parked)
    assert Deferred.fromCoroutine(stream.pipe.rescue()).called
    assert stream.kept == [(3, hashlib.sha256(b"abc").hexdigest())]


def test_parking_beside_a_checkpoint() -> None:
    """A checkpoint that is under way is made before the stream ends: what follows may be too little for one."""
    stream = Stream()
    flushing = stream.basin.flushing = Deferred()
    stream.tap.give(b"x" * CHECKPOINT_BYTES)
    stream.lease.park()
    stream.tap.give(b"more")
    assert not stream.pumping.called
    stream.basin.flushing = None
    flushing.callback(None)
    assert isinstance(failure(stream.pumping), Parked)
    assert [offset for offset, _ in stream.kept] == [CHECKPOINT_BYTES]


def test_rescue_after_a_broken_write() -> None:
    """What the sink did not take is not told as arrived."""
    stream = Stream()
    stream.tap.give(b"abc")
    stream.basin.full = Deferred()
    stream.tap.give(b"def")
    stream.basin.full.errback(ConnectionLost("gone"))
    assert isinstance(failure(stream.pumping), ConnectionLost)
    assert Deferred.fromCoroutine(stream.pipe.rescue()).called
    assert not stream.kept


def test_rescue_that_fails() -> None:
    """Where the sink is gone too, rescue says nothing."""
    stream = Stream()
    stream.tap.give(b"abc")
    stream.pumping.cancel()
    assert isinstance(failure(stream.pumping), CancelledError)
    stream.basin.broken = True
    rescued = Deferred.fromCoroutine(stream.pipe.rescue())
    assert rescued.called
    assert failure(rescued) is None
    assert not stream.kept


def test_no_checkpoints_without_an_identity() -> None:
    """What can never be resumed is not kept."""
    stream = Stream(resumable=False)
    stream.tap.give(b"abc")
    stream.passes(CHECKPOINT_SECONDS)
    stream.tap.give(b"def")
    stream.pumping.cancel()
    assert isinstance(failure(stream.pumping), CancelledError)
    assert Deferred.fromCoroutine(stream.pipe.rescue()).called
    assert not stream.kept
