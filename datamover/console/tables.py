"""Figures and tables as people read them in a terminal. Pure."""

from collections.abc import Sequence

from datamover.text.printable import one_line

WIDEST = 60
"""Characters of one cell."""


def size(count: float | None) -> str:
    """Return bytes in decimal units: 1.2 GB; "?" where they are not known."""
    if count is None:
        return "?"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} PB"


def rate(count: float) -> str:
    """Return bytes a second; nothing for none."""
    return f"{size(count)}/s" if count else ""


def percentage(done: int, total: int | None) -> str:
    """Return how much is done; nothing where the total is not known."""
    return f"{100 * done // total}" if total else ""


def duration(seconds: float) -> str:
    """Return a time in its two largest units: 3 h 12 min."""
    whole = max(0, round(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, whole = divmod(whole, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return lines of columns; a line that says so where there are no rows."""
    if not rows:
        return "nothing"
    lines = [[_cell(value) for value in row] for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cell(value: object) -> str:
    # Cut before it is escaped: a cell of eight million characters shows sixty.
    text = one_line(str(value)[: WIDEST + 1])
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"
