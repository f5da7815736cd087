"""The width of text on a terminal, in cells, not characters. Pure.

East Asian wide characters take two cells, combining ones none (Unicode Standard Annex 11). What does not print is not
expected here: ``text.printable`` escapes it.
"""

import unicodedata
from collections.abc import Iterator

ELLIPSIS = "…"
_JOINERS = frozenset({"Mn", "Me", "Cf"})


def width(text: str) -> int:
    """Return the cells that text takes."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def clusters(text: str) -> Iterator[str]:
    """Yield what the cursor steps over at once: a character with what combines with it."""
    start = 0
    for index in range(1, len(text) + 1):
        if index == len(text) or _cells(text[index]):
            yield text[start:index]
            start = index


def cut(text: str, cells: int) -> str:
    """Return text of at most so many cells, with an ellipsis at its end where something is left out."""
    if width(text) <= cells:
        return text
    return (_beginning(text, cells - 1) + ELLIPSIS) if cells > 0 else ""


def cut_middle(text: str, cells: int) -> str:
    """Return text of at most so many cells, with an ellipsis in its middle: of a path, both ends tell most."""
    if width(text) <= cells or cells < 5:
        return cut(text, cells)
    end = (cells - 1) // 2
    return f"{_beginning(text, cells - 1 - end)}{ELLIPSIS}{_beginning(text[::-1], end)[::-1]}"


def padded(text: str, cells: int, *, right: bool = False) -> str:
    """Return text with blanks to so many cells, before it where it is to stand at the right."""
    blanks = " " * (cells - width(text))
    return blanks + text if right else text + blanks


def _beginning(text: str, cells: int) -> str:
    taken = 0
    for index, character in enumerate(text):
        taken += _cells(character)
        if taken > cells:
            return text[:index]
    return text


def _cells(character: str) -> int:
    if character < "\x7f":
        return 1
    if unicodedata.category(character) in _JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
