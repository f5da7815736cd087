"""One ordered stream from a source to a sink: digest, rate limit, progress, checkpoints, and time limits.

Memory is constant: the buffers of source and sink, one chunk, and the digest's batch. A stream that moves nothing for
``idle_timeout`` ends with Stalled; one that stays below ``min_rate`` over ``min_rate_window`` ends with TooSlow. Time
spent waiting for the destination's own rate limit does not count, nor, for Stalled, that for a destination whose
connections watch what is on its way: many megabytes may be, and arrive together.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from datamover.config.schema import Transfers
from datamover.engine.lease import Lease, Parked
from datamover.engine.meter import Meter
from datamover.engine.room.reservation import RoomReservation
from datamover.engine.throttle import Throttle
from datamover.engine.transfer.digest import BATCHES, Digest
from datamover.errors import DataMoverError, Scope, Stalled, TooSlow
from datamover.protocols.base import Octets, Source
from datamover.protocols.upload import Saved

T = TypeVar("T")

CHECKPOINT_BYTES = 15 * 2**20
CHECKPOINT_SHARE = 85
"""A checkpoint is made after CHECKPOINT_BYTES or the file's size divided by this, whichever is more."""
BEHIND = 4
"""Checkpoint intervals that the stream may be ahead of the last checkpoint that is made: the most that a failed attempt
loses. So many are made at a time: a side that stores parts has several of them under way."""
CHECKPOINT_SECONDS = 5.0
CHECKS = 4
"""Checks of a time limit within its period."""


OnCheckpoint = Callable[[Saved, str], None]
"""Called with each checkpoint: what is durable, and the sha256 of it."""


class Sink(Protocol):
    """The methods of ``protocols.upload.Upload`` that the stream needs."""

    def write(self, data: Octets) -> Awaitable[None]: ...

    async def flush(self) -> Saved: ...

    @property
    def watched(self) -> bool: ...


class Pipe:
    """Moves the rest of one file."""

    def __init__(
        self,
        *,
        source: Source,
        sink: Sink,
        digest: Digest,
        meter: Meter,
        lease: Lease,
        throttle: Throttle | None,
        room: RoomReservation | None,
        on_checkpoint: OnCheckpoint | None,
        clock: IReactorTime,
        settings: Transfers,
    ) -> None:
        self._source = source
        self._sink = sink
        self._digest = digest
        self._meter = meter
        self._lease = lease
        self._throttle = throttle
        self._room = room
        self._on_checkpoint = on_checkpoint
        self._clock = clock
        self._settings = settings
        self._written = source.offset
        self._side = Scope.SOURCE
        self._throttled = 0.0
        self._held_since: float | None = None
        self._saved = source.offset
        """The offset of the last checkpoint that is made."""
        self._checkpoints: deque[tuple[int, Deferred[None]]] = deque()
        """Those being made, in order, with their offsets."""

    async def pump(self) -> int:
        """Move until the source ends; return the whole file's size in bytes.

        Raises the errors of source and sink, Stalled, TooSlow, NoSpace if what was reserved at the destination is used
        up and there is no more, and Parked if the lease is to be parked. Cancelling stops at once; ``rescue`` may be
        called then, as after an error.
        """
        watch = _Watch(self._clock, self._settings, self._figures)
        return await watch.over(self._pump())

    async def rescue(self) -> None:
        """Make a checkpoint of what arrived, so that the next attempt begins there; ignore a failure."""
        if self._on_checkpoint is None or self._digest.size != self._written:
            return
        try:
            await self._checkpoint()
        except DataMoverError:
            return  # The sink is broken too: the checkpoint before stays in force.

    async def _pump(self) -> int:
        leave = BATCHES.join()
        try:
            return await self._stream()
        finally:
            leave()
            self._forget_checkpoints()

    async def _stream(self) -> int:
        marked_at, marked = self._clock.seconds(), self._written
        step = max(CHECKPOINT_BYTES, (self._source.inspection.size or 0) // CHECKPOINT_SHARE)
        while data := await self._source.read():
            if self._room is not None and self._written + len(data) > self._room.until:
                await self._take_room(self._room, len(data))
            await self._digest.add(data)
            self._side = Scope.DESTINATION
            await self._sink.write(data)
            self._side = Scope.SOURCE
            self._written += len(data)
            self._meter.bytes_done = self._written
            self._meter.moved += len(data)
            if self._throttle is not None:
                self._held_since = self._clock.seconds()
                self._throttled += await self._throttle.take(len(data))
                self._held_since = None
            if self._lease.parking:
                await self._all_checkpointed()
                raise Parked("the service stops; another attempt goes on from here")
            if self._on_checkpoint is None:
                continue
            now = self._clock.seconds()
            due = self._written - marked >= step
            if due or (now - marked_at >= CHECKPOINT_SECONDS and not self._checkpoints):
                self._checkpoints.append((self._written, Deferred.fromCoroutine(self._checkpoint())))
                marked_at, marked = now, self._written
            while self._checkpoints and (
                self._checkpoints[0][1].called or self._written - self._saved >= BEHIND * step
            ):
                await self._checkpointed()
        await self._all_checkpointed()
        return self._written

    async def _take_room(self, room: RoomReservation, more: int) -> None:
        """Reserve room for the next bytes, beyond what was reserved before; raises NoSpace where there is none."""
        if await room.extend(self._written, more, stored=False):
            return
        await self._all_checkpointed()
        self._side = Scope.DESTINATION
        await self._sink.flush()
        self._side = Scope.SOURCE
        if not await room.extend(self._written, more, stored=True):
            raise room.used_up(self._written)

    async def _all_checkpointed(self) -> None:
        while self._checkpoints:
            await self._checkpointed()

    async def _checkpointed(self) -> None:
        """Wait for the first checkpoint in progress; raises its error."""
        self._side = Scope.DESTINATION
        self._saved = self._checkpoints[0][0]
        await self._checkpoints[0][1]
        self._side = Scope.SOURCE
        self._checkpoints.popleft()

    def _forget_checkpoints(self) -> None:
        while self._checkpoints:
            _, checkpoint = self._checkpoints.pop()
            checkpoint.addErrback(lambda _: None)
            checkpoint.cancel()

    async def _checkpoint(self) -> None:
        """Flush everything written so far, and report a checkpoint; the stream may go on meanwhile."""
        written, digests = self._written, self._digest.hexdigests()
        try:
            saved = await self._sink.flush()
        except BaseException:
            digests.addErrback(lambda _: None)
            digests.cancel()
            raise
        sha256 = (await digests)["sha256"]
        # A side that stores whole parts may have saved less, and the digest of that is unknown: there is no checkpoint.
        if self._on_checkpoint is not None and saved.offset == written:
            self._on_checkpoint(saved, sha256)

    def _figures(self) -> "_Figures":
        held = 0.0 if self._held_since is None else self._clock.seconds() - self._held_since
        watched = self._side is Scope.DESTINATION and self._sink.watched
        return _Figures(self._written, self._throttled + held, self._side, watched)


class _Figures(NamedTuple):
    """How far a stream is."""

    moved: int
    """Bytes that the destination has taken."""
    throttled: float
    """Seconds."""
    side: Scope
    """The side that the stream waits for."""
    watched: bool
    """Whether that side itself raises Stalled (``Upload.watched``)."""


class _Watch:
    """Ends a stream that stalls or is too slow."""

    def __init__(self, clock: IReactorTime, settings: Transfers, figures: Callable[[], _Figures]) -> None:
        self._clock = clock
        self._settings = settings
        self._figures = figures
        self._verdict: DataMoverError | None = None
        self._call: IDelayedCall | None = None
        self._moved_at = self._window_from = clock.seconds()
        self._moved, self._throttled, *_ = figures()
        self._window_moved, self._window_throttled = self._moved, self._throttled

    async def over(self, stream: Coroutine[Any, Any, T]) -> T:
        """Await ``stream``; cancels it and raises Stalled or TooSlow. Cancelling cancels it."""
        running: Deferred[T] = Deferred.fromCoroutine(stream)
        if not running.called:
            self._schedule(running)
        try:
            return await running
        except CancelledError:
            if self._verdict is not None:
                raise self._verdict from None
            raise
        finally:
            if self._call is not None and self._call.active():
                self._call.cancel()

    def _schedule(self, running: "Deferred[T]") -> None:
        period = min(self._settings.idle_timeout, self._settings.min_rate_window) / CHECKS
        self._call = self._clock.callLater(period, self._check, running)

    def _check(self, running: "Deferred[T]") -> None:
        now = self._clock.seconds()
        figures = self._figures()
        moved, throttled = figures.moved, figures.throttled
        if figures.watched or moved != self._moved or throttled != self._throttled:
            self._moved, self._throttled, self._moved_at = moved, throttled, now
        self._verdict = self._stalled(now, figures.side) or self._too_slow(now, figures)
        if self._verdict is None:
            self._schedule(running)
        else:
            running.cancel()

    def _stalled(self, now: float, side: Scope) -> DataMoverError | None:
        if now - self._moved_at < self._settings.idle_timeout:
            return None
        verb = "came from the source" if side is Scope.SOURCE else "was taken by the destination"
        return Stalled(f"nothing {verb} for {now - self._moved_at:.0f} s", scope=side)

    def _too_slow(self, now: float, figures: _Figures) -> DataMoverError | None:
        moved, throttled = figures.moved, figures.throttled
        if figures.watched and moved == self._window_moved:
            return None  # What is on its way counts when it has arrived, over all the time that it took.
        seconds = now - self._window_from - (throttled - self._window_throttled)
        if seconds < self._settings.min_rate_window:
            return None
        rate = (moved - self._window_moved) / seconds
        self._window_from, self._window_moved, self._window_throttled = now, moved, throttled
        if rate >= self._settings.min_rate:
            return None
        return TooSlow(
            f"{rate:.0f} bytes a second over the last {seconds:.0f} s: at least {self._settings.min_rate} are expected"
        )
