"""What of the work is one process's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamover.engine.share import ALONE, ProcessShare
from datamover.jobs.queue.limits import QueueLimits


@given(limit=st.integers(1, 1000), of=st.integers(1, 50))
def test_parts_add_up(limit: int, of: int) -> None:
    """The parts of a limit are all of it, and as even as can be."""
    parts = [ProcessShare(number, of).part(limit) for number in range(of)]
    assert sum(parts) == limit
    assert max(parts) - min(parts) <= 1


def test_alone() -> None:
    """A process that is alone asks for all there is."""
    bounds = QueueLimits({"a": 2})
    assert ALONE.part(32) == 32
    assert ALONE.room(bounds, {"a": 2}, 30) == (bounds, 30)


@pytest.mark.parametrize(
    ("active", "left", "room"),
    [
        ({}, ["a", "b"], 2),
        ({"b": 2}, ["a"], 4),
        ({"a": 3}, ["a", "b"], 1),
        ({"a": 4, "b": 2}, [], 0),
        ({"a": 9, "b": 1, "gone": 5}, ["b"], 1),
    ],
)
def test_a_destination_is_shared(active: dict[str, int], left: list[str], room: int) -> None:
    """A process takes its part of what a destination allows, and leaves that destination to the others then."""
    bounds = QueueLimits({"a": 8, "b": 3}, total=100)
    found, asked = ProcessShare(1, 2).room(bounds, active, 16)
    limits = {name: limit if name in left else 0 for name, limit in bounds.destinations.items()}
    assert found == QueueLimits(limits, total=100)
    assert asked == room


@given(limits=st.dictionaries(st.text(max_size=2), st.integers(1, 20), min_size=1, max_size=4), of=st.integers(2, 6))
def test_all_of_a_limit_is_used(limits: dict[str, int], of: int) -> None:
    """What processes take, turn by turn, fills every destination, and none takes more than its part."""
    taken: dict[str, int] = dict.fromkeys(limits, 0)
    own: list[dict[str, int]] = [{} for _ in range(of)]
    for _ in range(sum(limits.values())):
        for number, active in enumerate(own):
            bounds, room = ProcessShare(number, of).room(QueueLimits(limits), active, 64)
            for name in bounds.destinations:
                count = max(0, min(room, bounds.destinations[name] - taken[name]))
                taken[name] += count
                active[name] = active.get(name, 0) + count
                room -= count
    assert taken == limits
    assert all(active[name] <= -(-limits[name] // of) for active in own for name in active)
