"""The cleaning of records: rows in and rows out, and what holds whatever the rows."""

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamover.bounds.datasets import MOST_TABLE_COLUMNS
from datamover.datasets.ala.section import COLUMNS as HEADERS
from datamover.datasets.ala.section import GOOD_FLAGS
from datamover.datasets.cleaning import table
from datamover.datasets.cleaning.headers import folded, layout_of
from datamover.datasets.cleaning.occurrences import COLUMNS, Occurrences, number
from datamover.errors import DatasetInvalid
from tests.servers.ala import DWC, LABELS

NAME = "Macropus rufus"
FLAGS = ("Supplied coordinates are zero", "userVerified", "Habitat incorrect for species")


def cleaned(text: str) -> tuple[list[list[str]], dict[str, Any]]:
    """Return the rows that are kept, and what is told of all."""
    file = io.BytesIO()
    out = Occurrences(file)
    table.clean(io.StringIO(text, newline=""), dict(HEADERS), GOOD_FLAGS, out, lambda _: None)
    told = out.told()
    assert told["size"] == len(file.getvalue())
    assert told["sha256"] == hashlib.sha256(file.getvalue()).hexdigest()
    header, *rows = csv.reader(io.StringIO(file.getvalue().decode("utf-8"), newline=""), strict=True)
    assert header == list(COLUMNS)
    return rows, told


def table_of(rows: Sequence[Sequence[str]], header: Sequence[str] = (*DWC, *FLAGS), **style: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, **style)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def record(lon: str = "149.1", lat: str = "-35.3", name: str = NAME, flags: Sequence[str] = ("", "", "")) -> list[str]:
    return [lon, lat, "100.0", "2012-03-04", "2012", "03", "guid", name, *flags]


@pytest.mark.parametrize(
    ("lon", "lat", "reason"),
    [
        ("149.1", "-35.3", None),
        ("-180", "90", None),
        ("180.0", "-90.0", None),
        ("+1.5e2", ".5", None),
        (" 149.1 ", "\t-35.3", None),
        ("0", "0", None),
        ("", "-35.3", "placeless"),
        ("149.1", "  ", "placeless"),
        ("", "x", "placeless"),
        ("x", "-35.3", "not a number"),
        ("149,1", "-35.3", "not a number"),
        ("149.1", "35°18'S", "not a number"),
        ("nan", "1", "not a number"),
        ("1", "-Infinity", "not a number"),
        ("1_0", "1", "not a number"),
        ("١٤٩", "1", "not a number"),
        ("1", "0x1", "not a number"),
        ("null", "null", "not a number"),
        ("200", "x", "not a number"),
        ("180.0000001", "0", "out of range"),
        ("0", "-90.1", "out of range"),
        ("1e999", "0", "out of range"),
    ],
)
def test_places(lon: str, lat: str, reason: str | None) -> None:
    """A record needs a longitude and a latitude that are numbers in range; the first reason counts."""
    rows, told = cleaned(table_of([record(lon, lat)]))
    assert told["dropped"] == ({reason: 1} if reason else {})
    assert rows == ([] if reason else [[NAME, lon.strip(), lat.strip(), "100.0", "2012-03-04", "2012", "03"]])


@pytest.mark.parametrize(
    ("flags", "lon", "reason"),
    [
        (("false", "false", "false"), "1", None),
        (("", "true", ""), "1", None),
        (("true", "true", ""), "1", "flagged: Supplied coordinates are zero"),
        (("", "", "true"), "1", "flagged: Habitat incorrect for species"),
        (("true", "", "true"), "1", "flagged: Supplied coordinates are zero"),
        (("", "", "TRUE"), "1", "flagged: Habitat incorrect for species"),
        (("yes", "1", "T"), "1", None),
        (("true", "", ""), "", "placeless"),
        (("true", "", ""), "x", "not a number"),
        (("true", "", ""), "181", "out of range"),
    ],
)
def test_flags(flags: Sequence[str], lon: str, reason: str | None) -> None:
    """A flag that is true condemns a record, unless it is a good one; the place goes before it."""
    _, told = cleaned(table_of([record(lon, flags=flags)]))
    assert told["dropped"] == ({reason: 1} if reason else {})


def test_the_reasons_in_their_order() -> None:
    """Reasons are told in the fixed order, the flags by name, with every record counted once."""
    rows, told = cleaned(
        table_of(
            [
                record(flags=("true", "", "")),
                record(flags=("", "", "true")),
                record("181"),
                record("x"),
                record(""),
                record(""),
                record(),
            ]
        )
    )
    assert list(told["dropped"].items()) == [
        ("placeless", 2),
        ("not a number", 1),
        ("out of range", 1),
        ("flagged: Habitat incorrect for species", 1),
        ("flagged: Supplied coordinates are zero", 1),
    ]
    assert (told["read"], told["kept"], len(rows)) == (7, 1, 1)


@pytest.mark.parametrize(
    "name", ["Déjà vu", "袋鼠", 'Say "hi"', "a,b", "two\nlines", "two\r\nlines", "tab\tbed", "'", ""]
)
@pytest.mark.parametrize(
    "style",
    [{}, {"quoting": csv.QUOTE_ALL}, {"lineterminator": "\n"}, {"quoting": csv.QUOTE_ALL, "lineterminator": "\r"}],
)
def test_names_arrive(name: str, style: dict[str, Any]) -> None:
    """Quotes, commas, line breaks and other scripts come through; a line break is a single newline then."""
    rows, _ = cleaned(table_of([record(name=name), record()], **style))
    assert [row[0] for row in rows] == [name.replace("\r\n", "\n"), NAME]


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (DWC, (7, 0, 1, 2, 3, 4, 5)),
        (LABELS, (7, 0, 1, 2, 3, 4, 5)),
        ([f" {name.upper()} " for name in LABELS], (7, 0, 1, 2, 3, 4, 5)),
        (("Longitude", "Latitude", *DWC), (9, 2, 3, 4, 5, 6, 7)),
        ((*DWC, "Longitude", "decimalLongitude"), (7, 0, 1, 2, 3, 4, 5)),
        (
            (
                "Scientific Name",
                "Decimal latitude (WGS84)",
                "Decimal longitude (WGS84)",
                "year",
                "month",
                "Event Date",
                "Coordinate Uncertainty in Metres",
                "whatever",
            ),
            (0, 2, 1, 6, 5, 3, 4),
        ),
    ],
)
def test_headers(header: Sequence[str], columns: Sequence[int]) -> None:
    """A column is found by any of its headers, the better of two first."""
    assert layout_of(header, HEADERS, GOOD_FLAGS).columns == tuple(columns)


def test_what_is_a_flag() -> None:
    """Neither a column that means something, nor one to ignore, nor a good flag is a flag; a nameless one may be."""
    header = (*DWC, "User  verified", "Record Verified", "Zero", "", "Longitude")
    assert layout_of(header, HEADERS, GOOD_FLAGS).flags == ((10, "Zero"), (11, "column 12"))
    assert folded("Longitude - processed") == folded("LONGITUDE_Processed") == "longitudeprocessed"


def test_missing_columns_are_named() -> None:
    """What is missing is named, with a header that it might have, and so is what is there."""
    with pytest.raises(DatasetInvalid) as caught:
        cleaned(table_of([], header=[name for name in DWC if name not in ("year", "decimalLatitude")]))
    assert "no column for lat (such as 'decimalLatitude'), no column for year (such as 'year')" in caught.value.message
    assert "'decimalLongitude', 'coordinateUncertaintyInMeters'" in caught.value.message


def test_blank_lines_are_no_rows() -> None:
    """Blank lines, at the end or between rows, are neither kept nor dropped nor wrong."""
    _, told = cleaned(table_of([record()]) + "\r\n\r\n" + table_of([record()]).partition("\r\n")[2] + "\n")
    assert (told["read"], told["kept"]) == (2, 2)


def test_bounds() -> None:
    """The bounds hold what is kept, and nothing else."""
    _, told = cleaned(table_of([record("10", "-5"), record("-20.5", "7"), record("0", "1"), record("200", "80")]))
    assert told["bounds"] == (-20.5, -5.0, 10.0, 7.0)
    assert cleaned(table_of([record("")]))[1]["bounds"] is None


def test_progress_is_reported() -> None:
    """Rows are counted for people as they are read."""
    seen: list[int] = []
    text = table_of([record()] * 5000)
    table.clean(io.StringIO(text, newline=""), dict(HEADERS), (), Occurrences(io.BytesIO()), seen.append)
    assert seen == [2048, 4096]


@pytest.mark.parametrize("text", ["1", "-1.5", "1e3", "nan", "inf", "1_0", "٣", "", "0x1", "1e999"])
def test_numbers(text: str) -> None:
    """A number is what every reader of CSV takes for one."""
    expected = {"1": 1.0, "-1.5": -1.5, "1e3": 1000.0, "1e999": math.inf}
    assert number(text) == expected.get(text)


PLACES = st.one_of(
    st.floats(-200, 200).map(str),
    st.sampled_from(["", " ", "nan", "-inf", "1e999", "180", "-90", "90.0000001", "1_0", "x", "1,5", "٣"]),
    st.text(max_size=5),
)
VALUES = st.one_of(st.sampled_from(["", "true", "false", "True", NAME]), st.text(max_size=8))
ROWS = st.lists(st.tuples(PLACES, PLACES, *([VALUES] * (len(DWC) + len(FLAGS) - 2))), max_size=30)


@settings(max_examples=300, deadline=None)
@given(rows=ROWS, quoted=st.booleans())
def test_whatever_the_rows(rows: Sequence[Sequence[str]], quoted: bool) -> None:
    """No kept row lacks a number in range, and kept and dropped by reason add up to the rows read."""
    safe = [[value.encode("utf-8", "replace").decode("utf-8") for value in row] for row in rows]
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    # Python writes a lone carriage return unquoted unless its lines end so.
    kept, told = cleaned(table_of(safe, quoting=quoting, lineterminator="\r\n"))
    assert told["read"] == len(rows)
    assert told["kept"] + sum(told["dropped"].values()) == told["read"]
    assert len(kept) == told["kept"]
    for row in kept:
        assert len(row) == len(COLUMNS)
        assert -180 <= float(row[1]) <= 180
        assert -90 <= float(row[2]) <= 90
        assert row[1].isascii()
        assert row[2].isascii()


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet=st.sampled_from('",\r\n x1\ufeff'), max_size=200))
def test_whatever_the_text(text: str) -> None:
    """Any text after a header is cleaned or refused with a reason, and never anything else."""
    try:
        kept, told = cleaned(table_of([]) + text)
    except DatasetInvalid:
        return
    assert told["kept"] == len(kept)
    assert told["kept"] + sum(told["dropped"].values()) == told["read"]


def test_columns_have_a_bound() -> None:
    """Records of thousands of columns, each of which might be a flag, are refused."""
    wide = [f"column {number}" for number in range(MOST_TABLE_COLUMNS)]
    with pytest.raises(DatasetInvalid, match="have 2,008 columns, and at most 2,000 are read"):
        cleaned(",".join([*DWC, *wide]) + "\n")
