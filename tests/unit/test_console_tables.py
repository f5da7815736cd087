"""Figures and tables as people read them."""

import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamover.console.figures import duration, percentage, rate, size
from datamover.console.tables import PLAIN, WIDEST, Column, Line, Screen, Table, render
from datamover.console.width import clusters, cut, cut_middle, width


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], screen: Screen = PLAIN) -> str:
    return render([Table([Column(head, flexible=True) for head in heads], rows, "there is none")], screen)


def test_size() -> None:
    """A size that is not known shows as such."""
    assert (size(1_234_000_000), size(None)) == ("1.2 GB", "?")


def test_rate() -> None:
    """Bytes a second; what stands still shows nothing."""
    assert rate(2.5e8) == "250 MB/s"
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


def test_numbers_stand_at_the_right() -> None:
    """Numbers stand below each other, digit by digit."""
    shown = render([Table([Column("n", right=True), Column("x")], [(1, "a"), (100, "b")], "")], PLAIN)
    assert shown == "  n  x\n  1  a\n100  b"


def test_no_rows() -> None:
    """A table without rows says what there is none of, broken as any sentence."""
    assert table(("id",), []) == "there is none"
    assert render([Table([Column("id")], [], "there is none")], Screen(9)) == "there is\nnone"


def test_long_cells_are_cut() -> None:
    """A cell has a widest, and shows that it was cut."""
    assert table(("x",), [("a" * 100,)]).splitlines()[1] == "a" * (WIDEST - 1) + "…"


def test_paths_are_cut_in_the_middle() -> None:
    """Of a path its beginning and its end are shown."""
    shown = render([Table([Column("x", middle=True)], [("a" * 100 + "b" * 5000,)], "")], PLAIN).splitlines()[1]
    assert shown.startswith("aaaa")
    assert shown.endswith("bbbb")
    assert "…" in shown
    assert width(shown) == WIDEST


@given(
    st.lists(st.lists(st.text(max_size=80), min_size=3, max_size=3), min_size=1, max_size=5),
    st.integers(20, 200),
    st.booleans(),
)
def test_nothing_wraps(rows: list[list[str]], columns: int, colours: bool) -> None:
    """Whatever a table holds, each line has the screen's width at most, in cells; colours take none."""
    screen = Screen(columns, 24, colours)
    heads = [Column("some", middle=True, flexible=True), Column("fixed"), Column("red", colour=lambda _: 31)]
    lines = render([Table(heads, rows, ""), Line("x" * 300)], screen).split("\n")
    assert len(lines) == len(rows) + 2
    for line in lines:
        plain = line.replace("\x1b[31m", "").replace("\x1b[0m", "")
        assert width(plain) <= columns
        assert plain.isprintable()


def test_sentences_are_broken_between_words() -> None:
    """A sentence that is too long goes on in the next line, with whole words."""
    assert render(["one two three four"], Screen(9)) == "one two\nthree\nfour"
    assert render(["  indented line"], Screen(12)) == "  indented\nline"


def test_no_colours_where_there_are_none() -> None:
    """A screen without colours is sent none."""
    shown = Table([Column("s", colour=lambda _: 31)], [("FAILED",)], "")
    assert "\x1b" not in render([shown], Screen(80))
    assert "\x1b[31mFAILED\x1b[0m" in render([shown], Screen(80, colours=True))


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


@pytest.mark.parametrize(("text", "cells"), [("abc", 3), ("é", 1), ("e\u0301", 1), ("漢字", 4), ("", 0)])
def test_width(text: str, cells: int) -> None:
    """Wide characters take two cells, what combines none."""
    assert width(text) == cells


def test_clusters() -> None:
    """What combines stays with its character."""
    assert list(clusters("ae\u0301漢")) == ["a", "e\u0301", "漢"]


@given(st.text(max_size=60), st.integers(1, 40))
def test_cut(text: str, cells: int) -> None:
    """What is cut has at most the cells that there are, and shows that it was cut."""
    for shown in (cut(text, cells), cut_middle(text, cells)):
        assert width(shown) <= cells
        assert shown == text or "…" in shown


def test_blanks_without_end() -> None:
    """A line of many blanks takes no longer than one of as many letters."""
    began = time.process_time()
    assert render(["a" + " " * 20_000], Screen(80)) == "a"
    assert render([" " * 20_000], Screen(80)) == ""
    assert time.process_time() - began < 0.1
