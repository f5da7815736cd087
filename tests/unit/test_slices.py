"""How much long work does at a time."""

from datamover.jobs.upkeep.slices import FIRST, LEAST, LONG, MOST, SliceSize


def test_quick_slices_grow() -> None:
    """After quick slices come larger ones, up to a bound."""
    pace = SliceSize()
    sizes = []
    for _ in range(10):
        sizes.append(pace.rows)
        pace.took(LONG / 5)
    assert sizes[:3] == [FIRST, 2 * FIRST, 4 * FIRST]
    assert pace.rows == MOST


def test_slow_slices_shrink() -> None:
    """After a slow slice comes a smaller one, down to a bound; one that takes as long as it should is kept."""
    pace = SliceSize()
    pace.took(0.6 * LONG)
    assert pace.rows == FIRST
    pace.took(1.5 * LONG)
    assert pace.rows == FIRST // 2
    for _ in range(10):
        pace.took(10.0)
    assert pace.rows == LEAST


def test_giving_up() -> None:
    """After a slice that gave up comes a much smaller one, unless it was the smallest."""
    pace = SliceSize()
    assert pace.gave_up()
    assert pace.rows == FIRST // 4
    while pace.gave_up():
        pass
    assert pace.rows == LEAST
