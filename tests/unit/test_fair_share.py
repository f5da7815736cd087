"""How much one may have of what there is for everybody."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from datamover.concurrency.fair_share import FairPlace, FairQueue, FairRoom, FairShare
from datamover.errors import Unavailable


def greedy(share: FairShare, who: str, **how: int) -> int:
    """Take until there is no more; return how often."""
    count = 0
    while share.take(who, **how):
        count += 1
    return count


def test_nobody_takes_the_last_half() -> None:
    """A holder that takes all it can leaves half, the next one half of that; what is given back can be taken."""
    share = FairShare(lambda: 100)
    assert [greedy(share, who) for who in "abcd"] == [50, 25, 12, 6]
    for _ in range(50):
        share.give("a")
    assert greedy(share, "e") == 28
    assert share.take("f")


def test_the_last_pieces_are_for_those_who_have_none() -> None:
    """Where hardly anything is left, whoever has something gets no more of it."""
    share = FairShare(lambda: 3)
    assert [greedy(share, who) for who in "abcd"] == [1, 1, 1, 0]
    share = FairShare(lambda: 1)
    assert share.take("a")
    assert not share.take("b")


def test_a_bound_for_each() -> None:
    """One has no more than its bound, however much is left."""
    share = FairShare(lambda: 100, lambda: 3)
    assert [greedy(share, who) for who in "ab"] == [3, 3]


def test_a_reserve() -> None:
    """Where others have taken everything, a call with ``beyond`` still gets units."""
    share = FairShare(lambda: 2)
    assert [greedy(share, who) for who in "abc"] == [1, 1, 0]
    assert share.take("here", beyond=2)
    assert not share.take("c")


def test_what_is_too_large_for_what_is_left() -> None:
    """A large piece is not the last one that is given away; a single one may be."""
    share = FairShare(lambda: 100, single=lambda: 10)
    assert not share.take("a", 51)
    assert share.take("a", 50)
    assert share.take("b", 20)
    assert share.take("c", 15)
    assert share.take("d", 10)
    assert not share.take("e", 10)


def test_bounds_that_change() -> None:
    """What there is now counts; what was taken before stays taken."""
    bound = [10]
    share = FairShare(lambda: bound[0])
    assert greedy(share, "a") == 5
    bound[0] = 20
    assert greedy(share, "a") == 5
    bound[0] = 4
    assert not share.take("b")
    for _ in range(8):
        share.give("a")
    assert share.take("b")


def test_held_for_a_while() -> None:
    """What a block holds is given back however it ends; what there is no more of is refused in the words given."""
    share = FairShare(lambda: 1)
    with share.held("a", "busy"), pytest.raises(Unavailable, match="busy"), share.held("b", "busy"):
        raise AssertionError("it was given twice")
    with pytest.raises(ZeroDivisionError), share.held("a", "busy"):
        raise ZeroDivisionError
    assert (share.all, len(share)) == (0, 0)


@given(
    total=st.integers(1, 60),
    single=st.integers(1, 5),
    steps=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 20), st.booleans()), max_size=80),
)
def test_whatever_is_taken(total: int, single: int, steps: list[tuple[str, int, bool]]) -> None:
    """No more than there is; nobody takes the last half; one with nothing gets a single piece while there is one."""
    share, had = FairShare(lambda: total, single=lambda: single), Counter[str]()
    for who, amount, takes in steps:
        before = share.all
        if not takes:
            if had[who] >= amount:
                share.give(who, amount)
                had[who] -= amount
        elif share.take(who, amount):
            had[who] += amount
            assert had[who] <= max(total - before - amount, single)
        else:
            left = total - before - amount
            assert left < 0 or had[who] + amount > left
            assert left < 0 or had[who] or amount > single
        assert share.all == had.total() <= total
        assert {each: share.of(each) for each in had} == had
        assert len(share) == len(+had)
        assert max(had.values(), default=0) <= max(total // 2, single)


def test_who_waits_is_served_in_turn() -> None:
    """A unit that is given back goes to others first; a caller that has left the queue gets none."""
    queue = FairQueue(FairShare(lambda: 2))
    served: list[str] = []
    ends: list[Deferred[None]] = []

    async def hold(who: str) -> None:
        await queue.take(who)
        served.append(who)
        ends.append(Deferred())
        await ends[-1]
        queue.give(who)

    holding = [Deferred.fromCoroutine(hold(who)) for who in ("a", "a", "a", "b", "c", "c")]
    assert (served, len(queue)) == (["a", "b"], 4)
    holding[4].addBoth(lambda _: None)  # The CancelledError.
    holding[4].cancel()
    assert len(queue) == 3
    for end in range(5):
        ends[end].callback(None)
    assert (served, len(queue)) == (["a", "b", "a", "c", "a"], 0)
    assert all(each.called for each in holding)


def test_units_that_are_given_back_at_once() -> None:
    """A waiter that is served by a ``give``, and gives its unit back within that, is served once."""
    share = FairShare(lambda: 2, kept=False)
    queue, served = FairQueue(share), list[str]()

    async def pass_through(who: str) -> None:
        await queue.take(who)
        served.append(who)
        queue.give(who)

    for _ in range(2):
        Deferred.fromCoroutine(queue.take("a"))
    for who in "aabbc":
        Deferred.fromCoroutine(pass_through(who))
    assert (served, len(queue), share.of("a")) == ([], 5, 2)
    queue.give("a")
    assert (served, len(queue), share.all) == (["a", "b", "c", "a", "b"], 0, 1)


def test_what_grows_takes_more() -> None:
    """Room is taken in blocks while something grows, but for the first; it is given back at once."""
    share = FairShare(lambda: 100)
    room = FairRoom(share, "a", 10)
    assert [room.reach(size) for size in (10, 11, 20, 50, 51, 50)] == [True, True, True, True, False, True]
    assert (share.all, FairRoom(share, "b", 10).reach(31)) == (50, False)
    room.give()
    assert share.all == 0


def test_a_place_is_taken_once() -> None:
    """A place is kept until it is given back; after ``end`` nothing is taken, also by a ``take`` that waited."""
    share = FairShare(lambda: 2)
    queue = FairQueue(share)
    places = [FairPlace(queue, "a"), FairPlace(queue, "a")]
    for place in (places[0], places[0], places[1]):
        Deferred.fromCoroutine(place.take())
    assert (share.all, len(queue)) == (1, 1)
    places[1].end()
    places[0].give()
    assert (share.all, len(queue)) == (0, 0)
    Deferred.fromCoroutine(places[1].take())
    assert share.all == 0
