"""The number of rows of a slice of long work."""

from datamover.jobs.upkeep.slices import FIRST, LEAST, LONG, MOST, SliceSize


def test_quick_slices_grow() -> None:
    """After quick slices come larger ones, up to a bound."""
    size = SliceSize()
    sizes = []
    for _ in range(10):
        sizes.append(size.rows)
        size.took(LONG / 5)
    assert sizes[:3] == [FIRST, 2 * FIRST, 4 * FIRST]
    assert size.rows == MOST


def test_slow_slices_shrink() -> None:
    """After a slow slice comes a smaller one, down to a bound; one that takes as long as it should is kept."""
    size = SliceSize()
    size.took(0.6 * LONG)
    assert size.rows == FIRST
    size.took(1.5 * LONG)
    assert size.rows == FIRST // 2
    for _ in range(10):
        size.took(10.0)
    assert size.rows == LEAST


def test_giving_up() -> None:
    """After a slice that gave up comes a much smaller one, unless it was the smallest."""
    size = SliceSize()
    assert size.gave_up()
    assert size.rows == FIRST // 4
    while size.gave_up():
        pass
    assert size.rows == LEAST
