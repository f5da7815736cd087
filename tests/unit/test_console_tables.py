"""Figures and tables as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamover.console.tables import WIDEST, duration, percentage, rate, size, table


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "?"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_234_000_000, "1.2 GB"),
        (5e12, "5.0 TB"),
        (8e15, "8.0 PB"),
        (9e18, "9000.0 PB"),
    ],
)
def test_size(count: float | None, text: str) -> None:
    """Bytes come in decimal units, as disks and networks are sold."""
    assert size(count) == text


def test_rate() -> None:
    """Bytes a second; what stands still shows nothing."""
    assert rate(2.5e8) == "250.0 MB/s"
    assert rate(0) == ""


def test_percentage() -> None:
    """It is whole, never rounded up to the end, and empty where the total is unknown or nothing."""
    assert percentage(1, 3) == "33"
    assert percentage(9999, 10_000) == "99"
    assert percentage(10, 10) == "100"
    assert percentage(10, None) == ""
    assert percentage(0, 0) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (11_520, "3 h 12 min"),
        (86_400, "1 d"),
        (90_061, "1 d 1 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    """A time is told in its two largest units."""
    assert duration(seconds) == text


def test_table() -> None:
    """Columns are as wide as their widest cell, and lines have no blanks at their end."""
    assert table(("id", "label"), [(1, "a"), (100, "")]) == "id   label\n1    a\n100"


def test_no_rows() -> None:
    """A table without rows says so."""
    assert table(("id",), []) == "nothing"


def test_long_cells_are_cut() -> None:
    """A cell has a widest, and shows that it was cut."""
    assert table(("x",), [("a" * 100,)]).splitlines()[1] == "a" * (WIDEST - 1) + "…"


@given(st.text(max_size=200))
def test_what_came_from_outside(text: str) -> None:
    """Whatever a label or a path holds, it stays in its line and moves no cursor."""
    shown = table(("x",), [(text,)])
    assert len(shown.split("\n")) == 2
    assert shown[2:].isprintable()


@pytest.mark.parametrize("character", ["\n", "\u2028", "\u2029", "\x1b", "\u202e"])
def test_what_does_not_print_is_escaped(character: str) -> None:
    """A reader sees which character it is."""
    assert table(("x",), [(f"a{character}b",)]) == f"x\na{character.encode('unicode_escape').decode()}b"
