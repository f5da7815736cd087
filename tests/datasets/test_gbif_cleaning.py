"""GBIF's pages and answers as they become files: no server, no process."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamover.datasets.cleaning.occurrences import number
from datamover.datasets.gbif import cite, clean
from datamover.datasets.gbif.section import GbifSection
from datamover.errors import DatasetEmpty, DatasetInvalid, ServerError
from tests.servers.gbif import DATASET, record

HEADER = "species,lon,lat,uncertainty,date,year,month"
OTHER = "4fa7b334-ce0d-4e88-aaae-2e0c138d049e"


def page(records: Sequence[Any], offset: int = 0, *, end: bool = True) -> str:
    return json.dumps({"offset": offset, "limit": 300, "endOfRecords": end, "count": 1, "results": records})


def cleaned(
    directory: Path, pages: Sequence[str], *, size: int = 300, count: int | None = None
) -> tuple[Mapping[str, Any], list[str], list[str]]:
    """Clean pages; returns what is told, the lines of the occurrences and the datasets' keys."""
    (directory / "pages").write_text("".join(f"{one}\n" for one in pages), encoding="utf-8")
    request = clean.PagesRequest(
        str(directory / "pages"),
        size,
        size * len(pages) if count is None else count,
        str(directory / "occurrences"),
        str(directory / "keys"),
        "Macropus rufus",
        GbifSection().bad_issues,
    )
    told = clean.work(json.loads(json.dumps(asdict(request))), lambda _: None)
    lines = (directory / "occurrences").read_text("utf-8").split("\n")
    assert lines.pop() == ""
    return told, lines, (directory / "keys").read_text().split()


GOOD = "Macropus rufus,133.9,-23.7,30.0,2021-03-07,2021,3"
ROWS = [
    (record(1, 133.9, -23.7), GOOD),
    (record(1, -180, 90), GOOD.replace("133.9,-23.7", "-180,90")),
    (record(1, 1e-7, 0.0), GOOD.replace("133.9,-23.7", "1e-07,0.0")),
    (record(1, "133.9", "-23.7"), GOOD),
    (record(1, None, -23.7), "placeless"),
    (record(1, 133.9, ""), "placeless"),
    ({"key": 1}, "placeless"),
    (record(1, {"x": 1}, -23.7), "placeless"),
    (record(1, "east", -23.7), "not a number"),
    (record(1, float("nan"), -23.7), "not a number"),
    (record(1, "1_0", -23.7), "not a number"),
    (record(1, float("inf"), -23.7), "not a number"),
    (record(1, "1e400", -23.7), "out of range"),
    (record(1, 180.1, -23.7), "out of range"),
    (record(1, 133.9, -90.1), "out of range"),
    (record(1, 181, 0, "ZERO_COORDINATE"), "out of range"),
    (record(1, 0, 0, "ZERO_COORDINATE"), "flagged: ZERO_COORDINATE"),
    (record(1, 1, 1, "COUNTRY_COORDINATE_MISMATCH", "ZERO_COORDINATE"), "flagged: ZERO_COORDINATE"),
    (record(1, 133.9, -23.7, "COORDINATE_ROUNDED", "GEODETIC_DATUM_ASSUMED_WGS84"), GOOD),
    (record(1, 133.9, -23.7, occurrenceStatus="ABSENT"), "flagged: ABSENT"),
    (record(1, 133.9, -23.7, issues=None), GOOD),
    (record(1, 133.9, -23.7, issues=[["ZERO_COORDINATE"], 1]), GOOD),
    (record(1, 133.9, -23.7, species=None), GOOD.replace("Macropus rufus", '"Macropus rufus (Desmarest, 1822)"')),
    (record(1, 133.9, -23.7, species=None, scientificName=" "), GOOD),
    (record(1, 133.9, -23.7, eventDate=None, year=None, month=None), "Macropus rufus,133.9,-23.7,30.0,,,"),
    (record(1, 133.9, -23.7, eventDate="2021-03/2021-04"), GOOD.replace("2021-03-07", "2021-03/2021-04")),
    (
        record(1, 133.9, -23.7, species='Ma"cro\r\npus\x00 \ud800rüfus'),
        GOOD.replace("Macropus rufus", '"Ma""cro pus rüfus"'),
    ),
    (record(1, 133.9, -23.7, eventDate=["x"], year=True), GOOD.replace("2021-03-07,2021", ",")),
]


@pytest.mark.parametrize(("given_record", "expected"), ROWS)
def test_a_record(tmp_path: Path, given_record: dict[str, Any], expected: str) -> None:
    """A record becomes a row, its numbers as they were written, or is dropped for its first reason."""
    told, lines, _ = cleaned(tmp_path, [page([record(0, 1.5, 2.5), given_record])])
    assert lines[:2] == [HEADER, GOOD.replace("133.9,-23.7", "1.5,2.5")]
    if expected[0].islower():
        assert (lines[2:], told["dropped"]) == ([], {expected: 1})
    else:
        assert lines[2:] == [expected]


def test_numbers_as_they_were_written(tmp_path: Path) -> None:
    """No digit of a number is lost or added."""
    text = page([record(7, 133.9, -23.7)]).replace("133.9", "133.900000000000012345").replace("-23.7", "-23.700")
    _, lines, _ = cleaned(tmp_path, [text])
    assert lines[1] == GOOD.replace("133.9,-23.7", "133.900000000000012345,-23.700")


def test_what_is_told(tmp_path: Path) -> None:
    """Rows, reasons, bounds and the kept records' datasets are told; a record that comes twice is kept once."""
    pages = [
        page([record(1, 10, -5), record(2, 12.5, -7, dataset=OTHER)], end=False),
        page([record(2, 12.5, -7, dataset=OTHER), record(3, 200, 1, dataset="gone")], 2),
    ]
    told, lines, keys = cleaned(tmp_path, pages, size=2)
    assert len(lines) == 3
    assert (told["read"], told["kept"], told["datasets"]) == (4, 2, 2)
    assert told["dropped"] == {"out of range": 1, "flagged: REPEATED": 1}
    assert tuple(told["bounds"]) == (10.0, -7.0, 12.5, -5.0)
    assert told["size"] == (tmp_path / "occurrences").stat().st_size
    assert keys == sorted([DATASET, OTHER])


def test_a_key_is_no_path(tmp_path: Path) -> None:
    """A dataset's key that could lead elsewhere than to GBIF's datasets is not asked for."""
    bad = ["../../v1/species", "a/b", "a?b", "", "a b", "é"]
    _, lines, keys = cleaned(tmp_path, [page([record(n, 1, 1, dataset=key) for n, key in enumerate(bad)])])
    assert (len(lines), keys) == (7, [])


@pytest.mark.parametrize(
    ("pages", "count", "said"),
    [
        (["<html>busy</html>"], 1, "from 0 on holds none"),
        (['{"results": null}'], 1, "from 0 on holds none"),
        (["[1]"], 1, "from 0 on holds none"),
        (["[" * 100_000], 1, "from 0 on holds none"),
        ([page([record(1, 1, 1)] * 2, end=False), page([record(1, 1, 1)] * 2, 0)], 4, "from 0 on, not those from 2 on"),
        ([page([record(1, 1, 1)], end=False), page([record(1, 1, 1)] * 2, 2)], 4, "sent 1 of 2 records from 0 on"),
        ([page([record(1, 1, 1)] * 2, end=False), page([record(1, 1, 1)], 2, end=False)], 4, "sent 1 of 2 records"),
    ],
)
def test_a_page_that_is_not_what_was_asked_for(tmp_path: Path, pages: list[str], count: int, said: str) -> None:
    """A page that is none, is another or lacks records is an error that may be gone next time."""
    with pytest.raises(ServerError, match=said):
        cleaned(tmp_path, pages, size=2, count=count)


def test_fewer_records_than_announced(tmp_path: Path) -> None:
    """Records that GBIF took back while it was read are not missed where it says that there are no more."""
    told, _, _ = cleaned(tmp_path, [page([record(1, 1, 1)])], size=2, count=2)
    assert told["kept"] == 1


def test_a_record_that_is_none(tmp_path: Path) -> None:
    """A result that is no object is not GBIF's."""
    with pytest.raises(DatasetInvalid, match="a record that is not a JSON object"):
        cleaned(tmp_path, [page(["x"])])


def test_nothing_left(tmp_path: Path) -> None:
    """Where every record is dropped the reasons are told."""
    with pytest.raises(DatasetEmpty, match=r"^No valid occurrences left\. Of 2 rows were dropped: 1 placeless, 1 out"):
        cleaned(tmp_path, [page([record(1, None, 1), record(2, 181, 1)])])


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(-400, 400),
    st.text(max_size=6),
    st.sampled_from(["12.5", "1e400", "nan", "-0", "٣", "1_0", "+5", " 7 "]),
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "key": st.integers(1, 6),
        "decimalLongitude": SCALARS,
        "decimalLatitude": SCALARS,
        "species": SCALARS,
        "eventDate": SCALARS,
        "issues": st.one_of(SCALARS, st.lists(st.sampled_from(["ZERO_COORDINATE", "COORDINATE_ROUNDED", "X"]))),
        "occurrenceStatus": st.sampled_from(["PRESENT", "ABSENT", "absent", None]),
        "datasetKey": SCALARS,
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(RECORDS, max_size=12))
def test_whatever_the_records(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    """No row lacks a number in range, and kept and dropped rows together are the records read."""
    told, lines, _ = cleaned(tmp_path, [page([record(0, 1, 1), *records])])
    assert told["read"] == len(records) + 1 == told["kept"] + sum(told["dropped"].values())
    assert len(lines) == told["kept"] + 1
    for line in lines[1:]:
        lon, lat = (number(text) for text in line.rsplit(",", 6)[1:3])
        assert lon is not None
        assert lat is not None
        assert -180 <= lon <= 180
        assert -90 <= lat <= 90


def test_citations(tmp_path: Path) -> None:
    """Each citation is a paragraph of one line, once, sorted; what cannot be cited so is named by title or key."""
    answers = [
        ("k1", {"citation": {"text": "Zoo (2020).\n  Sightings."}}),
        ("k2", {"citation": {"text": "Äquator (2021)"}}),
        ("k3", {"citation": {"text": "Zoo (2020). Sightings."}}),
        ("k4", {"citation": {"text": None}, "title": "Frogs"}),
        ("k5", {"citation": "x", "title": 3}),
        ("k6", None),
    ]
    lines = [f"{key} {json.dumps(answer) if answer else ''}\n" for key, answer in answers]
    (tmp_path / "answers").write_text("".join(lines))
    request = cite.CitationsRequest(str(tmp_path / "answers"), str(tmp_path / "citations"))
    told = cite.work(asdict(request), lambda _: None)
    text = (tmp_path / "citations").read_text("utf-8")
    assert text.split("\n\n") == [
        "Frogs. GBIF dataset k4.",
        "GBIF dataset k6, which GBIF does not know any more.",
        "Untitled. GBIF dataset k5.",
        "Zoo (2020). Sightings.",
        "Äquator (2021)\n",
    ]
    assert told["size"] == len(text.encode())


def test_an_answer_for_a_dataset_that_is_none(tmp_path: Path) -> None:
    """What is no object instead of a dataset is an error that may be gone next time."""
    (tmp_path / "answers").write_text("k1 {oops\n")
    with pytest.raises(ServerError, match="dataset k1 is not a JSON object"):
        cite.work(asdict(cite.CitationsRequest(str(tmp_path / "answers"), str(tmp_path / "x"))), lambda _: None)
