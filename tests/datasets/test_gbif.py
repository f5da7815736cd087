"""GBIF's occurrences as a dataset, from a GBIF of the tests' own."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from datamover.datasets.gbif.dataset import NAMES
from tests.datasets.bench import TestBench
from tests.datasets.kangaroos import OTHER, SEARCH, TARGETS, TAXON, URL, dataset_of, made, many, names_in, serving
from tests.protocols.reading import reading
from tests.servers.gbif import DATASET, record
from tests.servers.web import status


@pytest_twisted.ensureDeferred
async def test_a_dataset(tmp_path: Path) -> None:
    """Four files are made, in the order in which they are placed, and nothing else is left on the bench."""
    records = [
        record(1, 133.9, -23.7),
        record(2, 140.25, -30.5, dataset=OTHER, coordinateUncertaintyInMeters=None),
        record(3, 200, 0),
        record(4, 1, 1, "COORDINATE_REPROJECTION_FAILED"),
    ]
    async with serving(records=records) as gbif:
        gbif.dataset(OTHER, "Atlas (2025). Sightings.")
        before = datetime.now(UTC)
        result, bench = await made(gbif, tmp_path)
        day = {moment.strftime("%d/%m/%Y") for moment in (before, datetime.now(UTC))}
        source = f"{gbif.url}/occurrence/search?taxonKey={TAXON}&hasCoordinate=true&hasGeospatialIssue=false"
    assert result.paths == tuple(tmp_path / name for name in NAMES)
    assert names_in(tmp_path) == sorted(NAMES)
    dropped = {"out of range": 1, "flagged: COORDINATE_REPROJECTION_FAILED": 1}
    assert result.details == {"read": 4, "kept": 2, "dropped": dropped, "datasets": 2}
    assert result.paths[0].read_text("utf-8") == (
        "species,lon,lat,uncertainty,date,year,month\n"
        "Macropus rufus,133.9,-23.7,30.0,2021-03-07,2021,3\n"
        "Macropus rufus,140.25,-30.5,,2021-03-07,2021,3\n"
    )
    assert json.loads(result.paths[1].read_bytes())["canonicalName"] == "Macropus rufus"
    assert result.paths[2].read_text("utf-8") == (
        "Atlas (2025). Sightings.\n\niNaturalist (2026). Research-grade Observations.\n"
    )
    description = json.loads(result.paths[3].read_bytes())
    date = description["provenance"]["source_date"]
    assert date in day
    assert description["title"] == "Red Kangaroo (Macropus rufus) occurrences"
    assert description["description"] == (
        f"Observed occurrences for Red Kangaroo (Macropus rufus), imported from GBIF on {date}"
    )
    assert description["provenance"] == {"source": "GBIF", "url": source, "source_date": date}
    assert (description["num_occurrences"], description["rows_dropped"]) == (2, dropped)
    assert description["bounds"] == [133.9, -30.5, 140.25, -23.7]
    kinds = ("occurrence", "attribution", "attribution")
    assert description["files"] == [
        {
            "url": target,
            "dataset_type": kind,
            "size": path.stat().st_size,
            "digest": f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
        }
        for path, target, kind in zip(result.paths[:3], TARGETS[:3], kinds, strict=True)
    ]
    assert bench.memories == []


@pytest_twisted.ensureDeferred
async def test_pages(tmp_path: Path) -> None:
    """The records come in pages of 300, two at a time, and keep their order; each dataset is asked for once."""
    async with serving(records=many(1000), delay=0.02) as gbif:
        result, bench = await made(gbif, tmp_path)
        asked = [(int(page["offset"]), int(page["limit"])) for page in gbif.asked(SEARCH)]
        assert sorted(asked) == [(0, 0), (0, 300), (300, 300), (600, 300), (900, 300)]
        assert gbif.busiest == 2
        assert len(gbif.asked(f"/dataset/{DATASET}")) == 1
    rows = result.paths[0].read_text().splitlines()[1:]
    assert [float(row.split(",")[1]) for row in rows] == [number / 1000 for number in range(1000)]
    assert bench.stages[0] == f"GBIF: asking about taxon {TAXON}"
    assert "GBIF: 600 of 1,000 records" in bench.stages
    assert "GBIF: 1,000 of 1,000 records" in bench.stages
    assert "cleaning" in bench.stages
    assert bench.stages[-1] == "GBIF: 1 of 1 citations"


@pytest_twisted.ensureDeferred
async def test_gently_together(tmp_path: Path) -> None:
    """However many datasets are made at once, GBIF is asked two things at a time."""
    async with serving(records=many(700), delay=0.01) as gbif, reading() as http:
        dataset = dataset_of(gbif, http)
        making = []
        for number in range(3):
            (tmp_path / str(number)).mkdir()
            bench = TestBench(tmp_path / str(number), TARGETS)
            making.append(Deferred.fromCoroutine(dataset.make(dataset.subject(URL), bench)))
        for each in making:
            assert (await each).details["kept"] == 700
        assert gbif.busiest == 2


@pytest_twisted.ensureDeferred
async def test_as_many_as_the_search_gives(tmp_path: Path) -> None:
    """100,000 records are made a dataset, the last page asked for within GBIF's bound."""
    async with serving(records=[record(number, 1.5, 2.5) for number in range(100_000)]) as gbif:
        gbif.pages(slim)
        result, bench = await made(gbif, tmp_path)
        last = max(gbif.asked(SEARCH), key=lambda page: int(page["offset"]))
    assert (last["offset"], last["limit"]) == ("99900", "100")
    assert result.details["kept"] == 100_000
    assert any(stage.startswith("cleaning: ") for stage in bench.stages)


def slim(page: dict[str, Any]) -> None:
    kept = ("key", "decimalLongitude", "decimalLatitude")
    page["results"] = [{name: one[name] for name in kept} for one in page["results"]]


NAMED: list[tuple[dict[str, Any], list[dict[str, Any]], str]] = [
    ({"vernacularName": "Red Roo"}, [], "Red Roo (Macropus rufus)"),
    ({}, [], "Macropus rufus"),
    ({"canonicalName": None}, [], "Macropus rufus (Desmarest, 1822)"),
    ({}, [{"vernacularName": "Rotes Riesenkänguru", "language": "deu"}], "Macropus rufus"),
    (
        {},
        [
            {"vernacularName": "Red\nRoo", "language": "eng"},
            {"vernacularName": "Red Kangaroo", "language": "eng", "preferred": True},
        ],
        "Red Kangaroo (Macropus rufus)",
    ),
    ({}, [{"vernacularName": None, "language": "eng"}, {"language": "eng"}], "Macropus rufus"),
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("fields", "names", "shown"), NAMED)
async def test_what_it_is_called(
    tmp_path: Path, fields: dict[str, Any], names: list[dict[str, Any]], shown: str
) -> None:
    """The title has the common name in English, the preferred one first, and the scientific name."""
    async with serving() as gbif:
        gbif.taxon(TAXON, "Macropus rufus", records=many(1), names=names, **fields)
        result, _ = await made(gbif, tmp_path)
    assert json.loads(result.paths[3].read_bytes())["title"] == f"{shown} occurrences"


@pytest_twisted.ensureDeferred
async def test_no_list_of_names(tmp_path: Path) -> None:
    """A taxon without a list of vernacular names goes by its scientific name."""
    async with serving(records=many(1)) as gbif:
        gbif.fault(f"/species/{TAXON}/vernacularNames", status(404))
        result, _ = await made(gbif, tmp_path)
    assert json.loads(result.paths[3].read_bytes())["title"] == "Macropus rufus occurrences"


@pytest_twisted.ensureDeferred
async def test_issues_that_condemn(tmp_path: Path) -> None:
    """Which issues drop a record is configuration."""
    records = [record(1, 1, 1, "COORDINATE_ROUNDED"), record(2, 2, 2, "COORDINATE_REPROJECTION_FAILED")]
    async with serving(records=records) as gbif:
        result, _ = await made(gbif, tmp_path, bad_issues=("COORDINATE_ROUNDED",))
    assert result.details["dropped"] == {"flagged: COORDINATE_ROUNDED": 1}


@pytest_twisted.ensureDeferred
async def test_a_dataset_that_is_gone(tmp_path: Path) -> None:
    """A dataset that GBIF does not know any more is cited by its key."""
    async with serving(records=[record(1, 1, 1, dataset=OTHER)]) as gbif:
        result, _ = await made(gbif, tmp_path)
    assert result.paths[2].read_text() == f"GBIF dataset {OTHER}, which GBIF does not know any more.\n"
