"""A table of raw records, read row by row into ``Occurrences``."""

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter

from datamover.bounds.datasets import LONGEST_TABLE_FIELD, MOST_TABLE_COLUMNS
from datamover.datasets.cleaning.headers import TableLayout, layout_of
from datamover.datasets.cleaning.occurrences import Occurrences
from datamover.errors import DatasetInvalid

REPORTED = 2048
"""Rows between two reports."""

_TRUE = frozenset({"true", "True", "TRUE"})


def clean(
    text: Iterable[str],
    meanings: Mapping[str, str],
    good_flags: Collection[str],
    out: Occurrences,
    report: Callable[[int], None],
) -> None:
    """Read a CSV with a header, line breaks unchanged, into ``out``; ``report`` is called with the rows read so far.

    Raises DatasetInvalid if it is empty, not UTF-8 or not CSV, lacks a required column, or has a row that is shorter or
    longer than the header: its values may be in the wrong columns.
    """
    csv.field_size_limit(LONGEST_TABLE_FIELD)
    # Strict: else a quote that is never closed would make the rest one field, without an error.
    rows = csv.reader(text, strict=True)
    try:
        header = next((row for row in rows if row), None)
        if header is None:
            raise DatasetInvalid("the records are zero bytes, without even a header")
        if len(header) > MOST_TABLE_COLUMNS:
            raise DatasetInvalid(
                f"the records have {len(header):,} columns, and at most {MOST_TABLE_COLUMNS:,} are read"
            )
        _take(rows, layout_of(header, meanings, good_flags), out, report, lambda: rows.line_num)
    except UnicodeDecodeError as error:
        raise DatasetInvalid(f"the records are not UTF-8 text, after line {rows.line_num}: {error.reason}") from None
    except csv.Error as error:
        raise DatasetInvalid(f"the records are not CSV, at line {rows.line_num}: {error}") from None
    out.finish()


def _take(
    rows: Iterator[Sequence[str]],
    layout: TableLayout,
    out: Occurrences,
    report: Callable[[int], None],
    line: Callable[[], int],
) -> None:
    width, pick, take = layout.width, itemgetter(*layout.columns), out.take
    for row in rows:
        if len(row) != width:
            if not row:
                continue
            raise DatasetInvalid(
                f"the row that ends at line {line()} has {len(row)} fields and the header {width}: "
                f"it is too {'short' if len(row) < width else 'long'}"
            )
        # Few rows have a flag, and looking for one in the whole row is cheap.
        flag = None
        if "true" in row or "True" in row or "TRUE" in row:
            flag = next((name for index, name in layout.flags if row[index] in _TRUE), None)
        take(pick(row), flag)
        if not out.read % REPORTED:
            report(out.read)
