"""Room at destinations that keep some free (``keep_free``): who may write how much, and what waits. Pure.

What may be written is what the place tells, less ``keep_free``, less what transfers have reserved and not written.
Where something waits, others go past it as long as they leave it half of the room that was there, or came, since it
waits longest: so neither a large file nor small ones wait for ever.
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
"""Bytes, at least, that there must be for a file of unknown size to begin."""
IN_FLIGHT = 32 * 2**20
"""Bytes, at most, that a transfer has handed over and the place may not have stored yet."""

Key = tuple[int, int]
"""A transfer's id and the number of its lease."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a place told of its room, and how far the transfers to it were before it was asked."""

    free: int | None
    """Bytes; None: it does not tell."""
    given: int = 0
    """Bytes that were ever reserved there by then."""
    reserved: "Sequence[Reserved]" = ()
    """What the transfers that were worked on then had reserved."""
    beside: tuple[str, ...] = ()
    """The destinations that share the room, sorted; their transfers are among these."""

    def seen(self, key: Key) -> int:
        """Return how much of a transfer's file the place had counted as used for certain; 0: it is not known."""
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
    """How much of the file the survey has seen; what is written beyond is part of what is asked for."""
    had: int
    """Up to where it had reserved before."""
    least: int
    most: int
    counted: bool = True
    """Whether the leader's ``bytes_done`` tells how far the group is."""
    running: bool = False
    """Whether it writes already: then nothing that waits goes before it."""

    @property
    def key(self) -> Key:
        return self.transfer, self.lease


@dataclass(frozen=True, slots=True)
class Reserved:
    """What a transfer that is worked on may write: the bytes of its file up to ``until``."""

    key: Key
    start: int | None
    """Where it began; None: its progress does not tell how far it is."""
    until: int
    written: int

    @property
    def seen(self) -> int | None:
        """How much of the file the place has counted as used for certain."""
        return None if self.start is None else max(self.start, self.written - IN_FLIGHT)

    @property
    def left(self) -> int:
        """Return what of it may still be used."""
        return max(0, self.until - (self.seen or 0))


@dataclass(frozen=True, slots=True)
class Waiter:
    """A group that waits for room."""

    transfer: int
    wanted: int
    """Bytes; 0: it does not know."""
    woken: bool = False
    """It was told that there is room, and has not been claimed yet."""

    @property
    def least(self) -> int:
        return self.wanted or LEAST

    def takes(self, left: int) -> int:
        """Return what it takes of the bytes that are left."""
        return self.wanted or min(STEP, max(LEAST, left))


@dataclass(frozen=True, slots=True)
class Room:
    """The room of one destination."""

    free: int
    keep: int
    under_way: int
    """What transfers have still to write."""
    given: int
    """Bytes that were ever reserved."""
    longest: int | None = None
    """The transfer that waits longest."""
    passed: int = 0
    """Bytes that others were given since."""

    @property
    def left(self) -> int:
        return self.free - self.keep - self.under_way

    def open_to(self, transfer: int) -> int:
        """Return the bytes that a transfer may take: all, or what those that go past the longest waiting may take."""
        return self.left if self.longest in (None, transfer) else (self.left - self.passed) // 2

    def granted(self, request: RoomRequest) -> int:
        """Return the bytes that are reserved for a request, 0 where it does not fit."""
        room = self.left if request.running else self.open_to(request.transfer)
        return min(request.most, room) if room >= request.least else 0

    def after(self, transfer: int, given: int) -> "Room":
        """Return the room after so many bytes were given to a transfer."""
        passed = self.passed if self.longest in (None, transfer) else self.passed + given
        return replace(self, under_way=self.under_way + given, given=self.given + given, passed=passed)

    def behind(self, longest: int | None) -> "Room":
        """Return the room where this transfer waits longest; what others were given counts anew for another one."""
        return replace(self, longest=longest, passed=self.passed if longest == self.longest else 0)


def room_of(survey: Survey, keep: int, given: int, *, but: Key | None = None) -> Room:
    """Return the room of a destination whose place tells it, without what one transfer had reserved.

    ``given``: what was ever reserved there by now. What was reserved after the survey counts whole: it has not seen
    that used, even where the transfer has ended since.
    """
    assert survey.free is not None
    left = sum(each.left for each in survey.reserved if each.key != but)
    return Room(survey.free, keep, left + given - survey.given, given)


@dataclass(frozen=True, slots=True)
class RoomQueue:
    """What is known of a destination when room is asked for there."""

    given: int = 0
    """Bytes that were ever reserved there."""
    since: Mapping[int, datetime] = field(default_factory=dict)
    """When those that ask, and have waited, and ``longest`` were first told to wait."""
    longest: int | None = None
    """Of those that wait, not of those that ask, the one that waits longest."""
    passed: int = 0
    """Bytes that others were given since ``longest`` is that."""

    def ahead_of(self, transfer: int) -> int | None:
        """Return ``longest``, unless a transfer has waited longer."""
        if self.longest is None or transfer not in self.since:
            return self.longest
        # A request that was refused a moment ago may not have waited before.
        before = self.since.get(self.longest)
        return self.longest if before is not None and before <= self.since[transfer] else None


def decide(requests: Sequence[RoomRequest], queue: RoomQueue) -> tuple[dict[Key, int], Room]:
    """Return the bytes given to those of some requests at one destination that fit, and its room afterwards."""
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
    """Return the waiters that there is room for, of all in the order in which they have waited, longest first."""
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
    """Return for how much room a transfer waits, from a row of ``read_waiting``."""
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
