"""Room at a destination that keeps some free: who gets how much, and what is woken."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from datamover.jobs.queue.room import (
    IN_FLIGHT,
    LEAST,
    STEP,
    Key,
    Reserved,
    Room,
    RoomQueue,
    RoomRequest,
    Survey,
    Waiter,
    blocks,
    decide,
    room_of,
    to_wake,
    told,
)

MIB = 2**20
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


def request(transfer: int, size: int, survey: Survey, *, keep: int = 100, running: bool = False) -> RoomRequest:
    return RoomRequest(transfer, 1, "archive", keep, survey, 0, 0, 0, size, size, running=running)


def granted(requests: list[RoomRequest], queue: RoomQueue | None = None) -> dict[Key, int]:
    return decide(requests, queue or RoomQueue())[0]


def test_what_fits() -> None:
    """Requests are given room in turn, as long as what is to stay free stays free."""
    survey = Survey(1000)
    given, room = decide([request(n, 300, survey) for n in range(1, 5)], RoomQueue())

    assert given == {(1, 1): 300, (2, 1): 300, (3, 1): 300}
    assert (room.left, room.given, room.longest) == (0, 900, 4)


def test_what_others_reserved() -> None:
    """What others reserved counts less what the place has counted as used for certain; a group's counts whole."""
    reserved = [
        Reserved((1, 1), 0, 100 * MIB, 50 * MIB),
        Reserved((2, 1), 90 * MIB, 100 * MIB, 91 * MIB),
        Reserved((3, 1), None, 10 * MIB, 9 * MIB),
    ]
    room = room_of(Survey(1000 * MIB, 7, reserved), 0, 7)

    assert room.under_way == 100 * MIB - (50 * MIB - IN_FLIGHT) + 10 * MIB + 10 * MIB
    assert room_of(Survey(1000 * MIB, 7, reserved), 0, 7, but=(3, 1)).under_way == room.under_way - 10 * MIB


def test_what_was_reserved_since() -> None:
    """What was reserved after the place told its room counts whole, also of a transfer that has ended since."""
    assert granted([request(1, 300, Survey(1000, given=50))], RoomQueue(given=650)) == {(1, 1): 300}
    assert granted([request(1, 301, Survey(1000, given=50))], RoomQueue(given=650)) == {}


def test_half_for_the_one_that_waits() -> None:
    """Others go past what waits until they have taken half of the room; more that comes is shared likewise."""
    queue = RoomQueue(since={9: NOON}, longest=9)
    survey = Survey(1100)
    given, room = decide([request(n, 100, survey) for n in range(1, 9)], queue)

    assert sorted(given) == [(n, 1) for n in range(1, 6)]
    assert (room.left, room.passed) == (500, 500)
    more = RoomQueue(given=500, since={9: NOON}, longest=9, passed=500)
    assert granted([request(6, 100, Survey(600 + 200, given=500))], more) == {(6, 1): 100}
    assert granted([request(6, 101, Survey(600 + 200, given=500))], more) == {}
    assert granted([request(9, 700, Survey(600 + 200, given=500))], more) == {(9, 1): 700}


def test_who_waited_longer_goes_first() -> None:
    """Of those that ask together the ones that have waited go first, and are not held back by who has waited less."""
    since = {1: NOON, 2: NOON - timedelta(hours=1), 9: NOON - timedelta(minutes=1)}
    queue = RoomQueue(since=since, longest=9)
    survey = Survey(1100)

    given, room = decide([request(3, 100, survey), request(1, 600, survey), request(2, 800, survey)], queue)

    assert given == {(2, 1): 800, (3, 1): 100}
    assert (room.longest, room.passed) == (9, 100)


def test_what_runs_goes_on() -> None:
    """A file that is being written gets what there is, whoever waits."""
    queue = RoomQueue(since={9: NOON}, longest=9)
    assert granted([request(1, 1000, Survey(1100), running=True)], queue) == {(1, 1): 1000}


def test_as_much_as_there_is() -> None:
    """A file of unknown size gets a step, or what there is of one."""
    for free, expected in ((STEP + MIB, STEP), (STEP - MIB, STEP - MIB), (LEAST, LEAST), (LEAST - 1, 0)):
        asked = replace(request(1, 0, Survey(free), keep=0), least=LEAST, most=STEP)
        assert granted([asked]) == ({(1, 1): expected} if expected else {})


@pytest.mark.parametrize(
    ("left", "woken"),
    [(50, []), (100, [1]), (399, [1]), (400, [1, 2]), (600, [1, 2]), (700, [1, 2, 3]), (1000, [1, 2, 3, 4])],
)
def test_who_is_woken(left: int, woken: list[int]) -> None:
    """Those that wait are woken in their order; past one that does not fit only as many as leave it half."""
    waiters = [Waiter(1, 100), Waiter(2, 300), Waiter(3, 300), Waiter(4, 250)]
    assert to_wake(Room(left + 100, 100, 0, 0), waiters) == woken


def test_past_one_that_is_stuck() -> None:
    """Small ones go past a large one, up to half; what was woken before, and is not claimed yet, counts."""
    waiters = [Waiter(1, 5000), Waiter(2, 100, woken=True), *(Waiter(n, 100) for n in range(3, 10))]
    assert to_wake(Room(1000, 0, 0, 0, longest=1), waiters) == [3, 4, 5, 6]
    assert to_wake(Room(1000, 0, 0, 0, longest=1, passed=600), waiters) == [3]


def test_blocks() -> None:
    """Files take whole blocks."""
    assert [blocks(size) for size in (0, 1, 4096, 4097)] == [0, 4096, 4096, 8192]


def test_told() -> None:
    """The sentence has the numbers, as far as they are known."""
    row = {
        "destination": "archive",
        "room_wanted": 30,
        "room_free": 60,
        "room_keep": 50,
        "room_under_way": 5,
        "room_shared": True,
    }
    assert told(row) == (
        "destination archive: room for 30 bytes: 60 are free, keep_free is 50, and transfers under way need 5; half of "
        "what is left is for the file that has waited longest"
    )
    assert told({**row, "room_wanted": 0, "room_free": None}) == "destination archive: room for a file of unknown size"
