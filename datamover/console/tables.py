"""What commands answer, and how it becomes text of a terminal's width. Pure.

A page is paragraphs, lines and tables. Paragraphs are broken between words; tables and lines are cut, so that nothing
of them wraps. Every character is made to print before anything is coloured.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from datamover.console.width import cut, cut_middle, padded, width
from datamover.text.printable import lines, one_line

WIDEST = 60
"""Cells of one cell of a table, where the screen does not have it narrower."""
NARROWEST = 8
"""Cells to which a column is made narrower at most."""
BETWEEN = "  "
NOTHING = "nothing"
"""A table without rows."""


@dataclass(frozen=True, slots=True)
class Screen:
    """What text is shown on."""

    width: int | None = None
    """Cells of a line; None: no terminal, lines are as long as they are."""
    height: int | None = None
    colours: bool = False
    addressable: bool = False
    """The cursor can be moved, and what is shown be overwritten."""


PLAIN = Screen()


@dataclass(frozen=True, slots=True)
class Column:
    """One column: how its values are shown, wherever it stands."""

    name: str
    show: Callable[[Any], str] = str
    right: bool = False
    flexible: bool = False
    """Made narrower where the screen is too narrow."""
    middle: bool = False
    """Cut in the middle."""
    colour: Callable[[Any], int | None] = lambda _: None
    """The number of an SGR colour (ECMA-48) for a value."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of values, one for each column."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Line:
    """A text that is cut rather than broken."""

    text: str


Part = str | Line | Table
Page = Sequence[Part]


def render(page: Page, screen: Screen) -> str:
    """Return a page as text, without an end of line at its end."""
    return "\n".join(line for part in page for line in _rendered(part, screen))


def _rendered(part: Part, screen: Screen) -> Iterator[str]:
    if isinstance(part, Table):
        yield from _table(part, screen)
    elif isinstance(part, Line):
        text = one_line(part.text)
        yield text if screen.width is None else cut(text, screen.width)
    else:
        for line in lines(part).split("\n"):
            yield from [line] if screen.width is None else _broken(line, screen.width)


def _table(table: Table, screen: Screen) -> Iterator[str]:
    if not table.rows:
        yield NOTHING
        return
    columns = table.columns
    cells = [[column.name for column in columns]]
    cells += [[_cell(column, value) for column, value in zip(columns, row, strict=True)] for row in table.rows]
    widths = [max(width(line[index]) for line in cells) for index in range(len(columns))]
    if screen.width is not None:
        widths = _narrowed(columns, widths, screen.width)
    for number, line in enumerate(cells):
        shown, left = "", screen.width
        for index, (column, cell) in enumerate(zip(columns, line, strict=True)):
            fitting = (cut_middle if column.middle else cut)(cell, widths[index])
            text = (BETWEEN if index else "") + padded(fitting, widths[index], right=column.right)
            if index == len(columns) - 1:
                text = text.rstrip()
            if left is not None:
                text = cut(text, left)
                left -= width(text)
            colour = column.colour(table.rows[number - 1][index]) if number and screen.colours else None
            shown += text if colour is None or not text.strip() else f"\x1b[{colour}m{text}\x1b[0m"
        yield shown.rstrip() if not screen.colours else shown


def _cell(column: Column, value: Any) -> str:
    # Cut before it is escaped: a cell of eight million characters shows sixty.
    text = "" if value is None else column.show(value)
    if len(text) > WIDEST:
        text = text[: WIDEST // 2 + 1] + "…" + text[-WIDEST // 2 :] if column.middle else text[: WIDEST + 1]
    return (cut_middle if column.middle else cut)(one_line(text), WIDEST)


def _narrowed(columns: Sequence[Column], widths: Sequence[int], most: int) -> list[int]:
    """Return widths with which a line has at most so many cells, as far as its flexible columns allow."""
    found = list(widths)
    excess = sum(found) + len(BETWEEN) * (len(found) - 1) - most
    while excess > 0:
        narrower = [index for index, each in enumerate(columns) if each.flexible and found[index] > NARROWEST]
        if not narrower:
            break
        found[max(narrower, key=found.__getitem__)] -= 1
        excess -= 1
    return found


def _broken(line: str, most: int) -> Iterator[str]:
    """Yield a line in pieces that end between words; a word that is too long stays whole."""
    if width(line) <= most:
        yield line
        return
    shown = ""
    for word in re.findall(r"\s*\S+", line):
        if shown and width(shown + word) > most:
            yield shown
            word = word.lstrip()
            shown = ""
        shown += word
    yield shown
