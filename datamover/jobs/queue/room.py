"""Room at destinations with ``keep_free``: which transfers may write how much, and which wait. Pure.

The room is the free space that the destination reports, less ``keep_free``, less what transfers have reserved and not
written. While a transfer waits, others may start before it as long as they leave half of the room that there was, or
came, since it became the one that waits longest. So neither a large file nor small ones wait forever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from datamover.postgres.database import Row
from datamover.text.quantities import count

BLOCK = 4096
"""Bytes in whose multiples files take room."""
STEP = 64 * 2**20
"""Bytes that a file of unknown size reserves at a time, at most."""
LEAST = 2**20
"""Bytes that must be free for a file of unknown size to begin."""
IN_FLIGHT = 32 * 2**20
"""Bytes that a transfer has sent and the destination may not have stored yet, at most."""

Key = tuple[int, int]
"""A transfer's id and the number of its lease."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The free space that a destination reported, and the progress of its transfers before it was asked."""

    free: int | None
    """Bytes; None: it does not report it."""
    given: int = 0
    """Bytes that were ever reserved there by then."""
    reserved: "Sequence[Reserved]" = ()
    """The reservations of the transfers that were active then."""
    beside: tuple[str, ...] = ()
    """The destinations that share the room, sorted; their transfers are among these."""

    def seen(self, key: Key) -> int:
        """Return how many bytes of a transfer's file the free space certainly excludes; 0: unknown."""
        return next((each.seen for each in self.reserved if each.key == key and each.seen is not None), 0)


@dataclass(frozen=True, slots=True)
class RoomRequest:
    """Room that one group asks for, in bytes beyond ``base``."""

    transfer: int
    lease: int
    destination: str
    keep: int
    survey: Survey
    start: int
    """Where the group begins to write; its progress counts from there."""
    base: int
    """The bytes of the file that the survey has seen; bytes written beyond are part of the request."""
    had: int
    """The end of its earlier reservation."""
    least: int
    most: int
    counted: bool = True
    """Whether the leader's ``bytes_done`` is the progress of the group."""
    running: bool = False
    """Whether it writes already; then no waiting transfer goes before it."""

    @property
    def key(self) -> Key:
        return self.transfer, self.lease


@dataclass(frozen=True, slots=True)
class Reserved:
    """The reservation of an active transfer: the bytes of its file up to ``until``."""

    key: Key
    start: int | None
    """Where it began; None: its progress does not show how far it is."""
    until: int
    written: int

    @property
    def seen(self) -> int | None:
        """The bytes of the file that the free space certainly excludes."""
        return None if self.start is None else max(self.start, self.written - IN_FLIGHT)

    @property
    def left(self) -> int:
        """The bytes that it may still use."""
        return max(0, self.until - (self.seen or 0))


@dataclass(frozen=True, slots=True)
class Waiter:
    """A group that waits for room."""

    transfer: int
    wanted: int
    """Bytes; 0: unknown."""
    woken: bool = False
    """It was woken, and has not been claimed yet."""

    @property
    def least(self) -> int:
        return self.wanted or LEAST

    def takes(self, left: int) -> int:
        """Return the bytes that it takes of those that are left."""
        return self.wanted or min(STEP, max(LEAST, left))


@dataclass(frozen=True, slots=True)
class Room:
    """The room of one destination."""

    free: int
    keep: int
    under_way: int
    """Bytes that transfers have reserved and not written."""
    given: int
    """Bytes that were ever reserved."""
    longest: int | None = None
    """The transfer that waits longest."""
    passed: int = 0
    """Bytes that others were granted since."""

    @property
    def left(self) -> int:
        return self.free - self.keep - self.under_way

    def open_to(self, transfer: int) -> int:
        """Return the bytes that a transfer may take: all, or the part that may go before the longest waiting one."""
        return self.left if self.longest in (None, transfer) else (self.left - self.passed) // 2

    def granted(self, request: RoomRequest) -> int:
        """Return the bytes that a request is granted, 0 if it does not fit."""
        room = self.left if request.running else self.open_to(request.transfer)
        return min(request.most, room) if room >= request.least else 0

    def after(self, transfer: int, given: int) -> "Room":
        """Return the room after ``given`` bytes were granted to a transfer."""
        passed = self.passed if self.longest in (None, transfer) else self.passed + given
        return replace(self, under_way=self.under_way + given, given=self.given + given, passed=passed)

    def behind(self, longest: int | None) -> "Room":
        """Return the room if ``longest`` waits longest; if that is another one, others' bytes are counted anew."""
        return replace(self, longest=longest, passed=self.passed if longest == self.longest else 0)


def room_of(survey: Survey, keep: int, given: int, *, but: Key | None = None) -> Room:
    """Return the room of a destination that reports its free space, without the reservation of one transfer.

    ``given`` are the bytes that were ever reserved there. Reservations after the survey count whole, even if the
    transfer has ended since, because the survey has not seen them used.
    """
    assert survey.free is not None
    left = sum(each.left for each in survey.reserved if each.key != but)
    return Room(survey.free, keep, left + given - survey.given, given)


@dataclass(frozen=True, slots=True)
class RoomQueue:
    """The state of a destination when room is requested there."""

    given: int = 0
    """Bytes that were ever reserved there."""
    since: Mapping[int, datetime] = field(default_factory=dict)
    """When the requesting transfers that have waited, and ``longest``, began to wait."""
    longest: int | None = None
    """The transfer that waits longest, not counting the requesting ones."""
    passed: int = 0
    """Bytes that others were granted since ``longest`` waits longest."""

    def ahead_of(self, transfer: int) -> int | None:
        """Return ``longest``, unless a transfer has waited longer."""
        if self.longest is None or transfer not in self.since:
            return self.longest
        # A request that was refused a moment ago may not have waited before.
        before = self.since.get(self.longest)
        return self.longest if before is not None and before <= self.since[transfer] else None


def decide(requests: Sequence[RoomRequest], queue: RoomQueue) -> tuple[dict[Key, int], Room]:
    """Return the bytes that requests at one destination are granted, if they fit, and its room afterwards."""
    given: dict[Key, int] = {}
    # Those that have waited come first, in their order.
    for request in sorted(requests, key=lambda one: (one.transfer not in queue.since, queue.since.get(one.transfer))):
        room = room_of(request.survey, request.keep, queue.given, but=request.key)
        room = replace(room, longest=queue.ahead_of(request.transfer), passed=queue.passed)
        granted = room.granted(request)
        if granted:
            given[request.key] = granted
            room = room.after(request.transfer, request.base + granted - request.had)
            queue = replace(queue, given=room.given, passed=room.passed)
        elif room.longest is None and not request.running:
            room = room.behind(request.transfer)
            queue = replace(queue, longest=request.transfer, passed=0)
    return given, room


def to_wake(room: Room, waiters: Sequence[Waiter]) -> list[int]:
    """Return the waiters for which there is room; ``waiters`` are in order, the longest waiting first."""
    woken: list[int] = []
    stuck: int | None = None
    for waiter in waiters:
        room = room.behind(waiter.transfer if stuck is None else stuck)
        if room.open_to(waiter.transfer) < waiter.least:
            stuck = waiter.transfer if stuck is None else stuck
            continue
        room = room.after(waiter.transfer, waiter.takes(room.left))
        if not waiter.woken:
            woken.append(waiter.transfer)
    return woken


def blocks(size: int) -> int:
    """Return the bytes that a file of this size takes."""
    return -(-size // BLOCK) * BLOCK


def told(row: Row) -> str:
    """Return the clause that says for how much room a transfer waits, from a row of ``read_waiting``."""
    wanted = row["room_wanted"]
    what = count(wanted, "byte") if wanted else "a file of unknown size"
    sentence = f"destination {row['destination']}: room for {what}"
    if row["room_free"] is None:
        return sentence
    under_way = f", and transfers under way need {row['room_under_way']}" if row["room_under_way"] else ""
    sentence += f": {row['room_free']} are free, keep_free is {row['room_keep']}{under_way}"
    return (
        f"{sentence}; half of what is left is for the file that has waited longest" if row["room_shared"] else sentence
    )
