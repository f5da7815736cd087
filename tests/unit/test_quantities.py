"""Amounts as people write them."""

import pytest

from datamover.text.quantities import count, size


@pytest.mark.parametrize(("number", "told"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (1000, "1000 files")])
def test_counts(number: int, told: str) -> None:
    """One is singular, everything else plural."""
    assert count(number, "file") == told


def test_plurals_of_their_own() -> None:
    """A plural that is more than an s is given."""
    assert count(1, "process", "processes") == "1 process"
    assert count(3, "process", "processes") == "3 processes"


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_960, "100 kB"),
        (999_600, "1.0 MB"),
        (9e18, "9.0 EB"),
    ],
)
def test_sizes(number: float, told: str) -> None:
    """A size has the unit that keeps it short."""
    assert size(number) == told
