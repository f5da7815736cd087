"""Find the columns of a table by its headers, without regard to case, spaces and punctuation. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from datamover.datasets.cleaning.occurrences import COLUMNS
from datamover.errors import DatasetInvalid

MOST_SHOWN = 12
"""Headers in a message."""
LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class TableLayout:
    """The meaning of one table's columns."""

    width: int
    columns: tuple[int, ...]
    """The index of each of ``COLUMNS``."""
    flags: tuple[tuple[int, str], ...]
    """The index and the name of each column in which ``true`` drops a row."""


def folded(header: str) -> str:
    """Return a header without case, spaces and punctuation."""
    return "".join(char for char in header.casefold() if char.isalnum())


def layout_of(header: Sequence[str], meanings: Mapping[str, str], good_flags: Collection[str]) -> TableLayout:
    """Read a table's header; ``meanings`` (header -> column) has the better of two headers first.

    Raises DatasetInvalid naming the columns that are missing.
    """
    places: dict[str, int] = {}
    for index, name in enumerate(header):
        places.setdefault(folded(name), index)
    columns: dict[str, int] = {}
    for name, meaning in meanings.items():
        if folded(name) in places:
            columns.setdefault(meaning, places[folded(name)])
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        raise DatasetInvalid(f"the records have {_absent(missing, meanings)}; their columns are {_shown(header)}")
    harmless = {folded(name) for name in (*good_flags, *meanings)}
    flags = tuple((index, _named(name, index)) for index, name in enumerate(header) if folded(name) not in harmless)
    return TableLayout(len(header), tuple(columns[column] for column in COLUMNS), flags)


def _absent(missing: Sequence[str], meanings: Mapping[str, str]) -> str:
    known = [
        f"no column for {column} (such as {next((name for name, of in meanings.items() if of == column), column)!r})"
        for column in missing
    ]
    return ", ".join(known)


def _shown(header: Sequence[str]) -> str:
    names = [repr(name[:LONGEST_SHOWN]) for name in header[:MOST_SHOWN]]
    more = len(header) - MOST_SHOWN
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _named(name: str, index: int) -> str:
    shown = " ".join(name.split())
    return shown[:LONGEST_SHOWN] if shown else f"column {index + 1}"
