"""The tables and lines that commands answer, laid out as text for the width of a terminal. Pure.

A page is paragraphs, lines and tables. Paragraphs are broken between words; tables and lines are cut, so that nothing
of them wraps. Every character is made to print before anything is coloured.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from datamover.console.width import cut, cut_middle, padded, width
from datamover.text.printable import lines, one_line

WIDEST = 60
"""Cells of the screen that one cell of a table has, at most."""
NARROWEST = 8
"""Cells that a column keeps when it is made narrower."""
COMFORTABLE = 16
"""Cells that a flexible column should have before optional ones have any."""
BETWEEN = "  "


@dataclass(frozen=True, slots=True)
class Screen:
    """The screen that text is shown on."""

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
    none: str
    """The sentence that stands for a table without rows: what there is none of."""
    optional: Sequence[Column] = ()
    """Left out where the screen is too narrow, the last one first."""


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
        yield from _table(part, screen) if part.rows else _rendered(part.none, screen)
    elif isinstance(part, Line):
        text = one_line(part.text)
        yield text if screen.width is None else cut(text, screen.width)
    else:
        for line in lines(part).split("\n"):
            yield from [line] if screen.width is None else _broken(line, screen.width)


def _table(table: Table, screen: Screen) -> Iterator[str]:
    stacks = [
        _Stack(
            column,
            [column.name, *(_cell(column, row[index]) for row in table.rows)],
            [row[index] for row in table.rows],
        )
        for index, column in enumerate(table.columns)
    ]
    if screen.width is not None:
        stacks = _fitting(stacks, table.optional, screen.width)
    for number in range(len(table.rows) + 1):
        shown, left = "", screen.width
        for index, stack in enumerate(stacks):
            text = (BETWEEN if index else "") + stack.shown(number)
            if index == len(stacks) - 1:
                text = text.rstrip()
            if left is not None:
                text = cut(text, left)
                left -= width(text)
            colour = stack.column.colour(stack.values[number - 1]) if number and screen.colours else None
            shown += text if colour is None or not text.strip() else f"\x1b[{colour}m{text}\x1b[0m"
        yield shown if screen.colours else shown.rstrip()


class _Stack:
    """One column of one table: its cells, the head first, and the cells of the screen that it has."""

    def __init__(self, column: Column, cells: Sequence[str], values: Sequence[Any]) -> None:
        self.column = column
        self.cells = cells
        self.values = values
        self.width = max(map(width, cells))

    @property
    def comfortable(self) -> int:
        return min(self.width, COMFORTABLE) if self.column.flexible else self.width

    def shown(self, number: int) -> str:
        cell = (cut_middle if self.column.middle else cut)(self.cells[number], self.width)
        return padded(cell, self.width, right=self.column.right)


def _cell(column: Column, value: Any) -> str:
    # Cut before it is escaped: a cell of eight million characters shows sixty.
    text = "" if value is None else column.show(value)
    if len(text) > WIDEST:
        text = text[: WIDEST // 2 + 1] + "…" + text[-WIDEST // 2 :] if column.middle else text[: WIDEST + 1]
    return (cut_middle if column.middle else cut)(one_line(text), WIDEST)


def _fitting(stacks: list[_Stack], optional: Sequence[Column], most: int) -> list[_Stack]:
    """Return the columns that fit in ``most`` cells: optional ones are left out first, then flexible ones narrowed."""

    def excess(widths: Iterable[int]) -> int:
        several = list(widths)
        return sum(several) + len(BETWEEN) * (len(several) - 1) - most

    for column in reversed(optional):
        if excess(stack.comfortable for stack in stacks) > 0:
            stacks = [stack for stack in stacks if stack.column is not column]
    for _ in range(max(0, excess(stack.width for stack in stacks))):
        flexible = [stack for stack in stacks if stack.column.flexible and stack.width > NARROWEST]
        if not flexible:
            break
        max(flexible, key=lambda stack: stack.width).width -= 1
    return stacks


def _broken(line: str, most: int) -> Iterator[str]:
    """Yield a line in pieces that end between words; a word that is too long stays whole."""
    if width(line) <= most:
        yield line
        return
    shown = ""
    for word in re.findall(r"\s*\S+", line.rstrip()):
        if shown and width(shown + word) > most:
            yield shown
            word = word.lstrip()
            shown = ""
        shown += word
    yield shown
