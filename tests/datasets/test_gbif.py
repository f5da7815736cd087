"""GBIF's occurrences as a dataset, from a GBIF of the tests' own."""

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.defer import CancelledError, Deferred

from datamover import config
from datamover.datasets.base import Dataset, Made
from datamover.datasets.gbif.dataset import NAMES, Gbif
from datamover.datasets.gbif.questions import Patience
from datamover.errors import (
    ConfigError,
    ConnectionLost,
    DataMoverError,
    DatasetEmpty,
    DatasetInvalid,
    DatasetNotFound,
    InvalidRequest,
    RateLimited,
    ServerError,
    SourceForbidden,
)
from datamover.protocols.http import HttpClient
from tests.datasets.bench import TestBench
from tests.protocols.reading import reading, soon
from tests.servers import gbif as fake
from tests.servers.gbif import DATASET, record
from tests.servers.web import Handler, redirect, silent, status

TAXON = "2440012"
URL = f"gbif://gbif?taxonKey={TAXON}"
SEARCH = "/occurrence/search"
OTHER = "4fa7b334-ce0d-4e88-aaae-2e0c138d049e"
TARGETS = tuple(f"roos/{name}" for name in NAMES)
HASTY = Patience(first_pause=0.01)


@asynccontextmanager
async def serving(*, records: Sequence[dict[str, Any]] = (), delay: float = 0.0) -> AsyncIterator[fake.Gbif]:
    """A GBIF that knows the red kangaroo and one dataset."""
    gbif = fake.Gbif(reactor, delay=delay)
    gbif.taxon(TAXON, "Macropus rufus", records=records, names=[{"vernacularName": "Red Kangaroo", "language": "eng"}])
    gbif.dataset(DATASET, "iNaturalist (2026). Research-grade Observations.")
    await gbif.start()
    try:
        yield gbif
    finally:
        await gbif.stop()


def dataset_of(gbif: fake.Gbif, http: HttpClient, **settings: Any) -> Gbif:
    return Gbif(config.Gbif(url=gbif.url, **settings), http, reactor, patience=HASTY)


async def made(gbif: fake.Gbif, directory: Path, **settings: Any) -> tuple[Made, TestBench]:
    """Make the dataset once."""
    async with reading() as http:
        dataset: Dataset = dataset_of(gbif, http, **settings)
        bench = TestBench(directory, TARGETS)
        return await dataset.make(dataset.subject(URL), bench), bench


async def failed(gbif: fake.Gbif, directory: Path) -> DataMoverError:
    """Return the error with which the dataset is not made."""
    with pytest.raises(DataMoverError) as caught:
        await made(gbif, directory)
    return caught.value


def many(count: int) -> list[dict[str, Any]]:
    return [record(number, number / 1000, -number / 2000) for number in range(count)]


def keys_of(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# What is made -----------------------------------------------------------------------------------------------------


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
    assert keys_of(tmp_path) == sorted(NAMES)
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
    kinds = ("occurrence", "attribution", "attribution", "attribution")
    files = description["files"]
    for path, target, kind, told in zip(result.paths, TARGETS, kinds, files, strict=True):
        assert (told["url"], told["dataset_type"], told["size"]) == (target, kind, path.stat().st_size)
    for path, told in zip(result.paths[:3], files[:3], strict=True):
        assert told["digest"] == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert "digest" not in files[3]
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


# What cannot be made ----------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_an_unknown_taxon(tmp_path: Path) -> None:
    """A taxon that GBIF does not know is not found, in GBIF's words."""
    async with serving() as gbif:
        gbif.fault(f"/species/{TAXON}", status(404, body=b'{"message": "Entity not found for uri"}'))
        error = await failed(gbif, tmp_path)
    assert isinstance(error, DatasetNotFound)
    assert error.message.startswith(f"GBIF does not know taxon {TAXON}: ")
    assert error.message.endswith('/v1/species/2440012 answered 404 Not Found: "Entity not found for uri"')


@pytest_twisted.ensureDeferred
async def test_no_records(tmp_path: Path) -> None:
    """A taxon without records is an empty dataset, and no page is asked for."""
    async with serving() as gbif:
        error = await failed(gbif, tmp_path)
        assert len(gbif.asked(SEARCH)) == 1
    assert isinstance(error, DatasetEmpty)
    assert error.message == f"GBIF has no occurrences of Macropus rufus (taxon {TAXON}) with sound coordinates"


@pytest_twisted.ensureDeferred
async def test_nothing_left(tmp_path: Path) -> None:
    """Where no record is of use the reasons are told, and nobody is cited."""
    async with serving(records=[record(1, 999, 1), record(2, "x", 1)]) as gbif:
        error = await failed(gbif, tmp_path)
        assert gbif.asked(f"/dataset/{DATASET}") == []
    assert isinstance(error, DatasetEmpty)
    assert error.message == "No valid occurrences left. Of 2 rows were dropped: 1 not a number, 1 out of range"


@pytest_twisted.ensureDeferred
async def test_too_many_records(tmp_path: Path) -> None:
    """More records than the search gives are refused with their number and the way out, before any is fetched."""
    async with serving(records=many(1)) as gbif:
        gbif.pages(lambda page: page.update(count=100_001))
        error = await failed(gbif, tmp_path)
        assert len(gbif.asked(SEARCH)) == 1
    assert isinstance(error, DatasetInvalid)
    assert "GBIF has 100,001 occurrences of Macropus rufus" in error.message
    assert "100,000: ask for the taxa below it one by one, or order a download at GBIF" in error.message


BROKEN = status(200, body=b"<html>We will be back soon</html>")
TRIES = HASTY.tries
FAULTS: list[tuple[str, Handler, int, type[DataMoverError], str]] = [
    (f"/species/{TAXON}", status(429, body=b"slow down"), TRIES, RateLimited, '429 Too Many Requests: "slow down"'),
    (f"/species/{TAXON}", status(500, body=b"<html>oops</html>"), TRIES, ServerError, "500 Internal Server Error"),
    (f"/species/{TAXON}", BROKEN, TRIES, ServerError, "something else than a JSON object"),
    (f"/species/{TAXON}", status(200, body=b"{oops"), 1, ServerError, "something else than a JSON object"),
    (f"/species/{TAXON}", status(200, body=b"{}"), 1, DatasetInvalid, "holds no scientificName"),
    (f"/species/{TAXON}", status(400, body=b"bad\nkey"), 1, DatasetInvalid, '400 Bad Request: "bad key"'),
    (f"/species/{TAXON}", status(403), 1, SourceForbidden, "403 Forbidden"),
    (f"/species/{TAXON}", redirect("/v1/nowhere"), 1, DatasetNotFound, "404 Not Found"),
    (f"/species/{TAXON}/vernacularNames", status(500), TRIES, ServerError, "500"),
    (SEARCH, status(503, [("Retry-After", "0")]), TRIES, RateLimited, "503"),
    (SEARCH, status(200, body=b'{"count": null}'), 1, ServerError, "how many records"),
    (SEARCH, status(200, body=b'{"count": true}'), 1, ServerError, "how many records"),
    (f"/dataset/{DATASET}", status(502), TRIES, ServerError, "502"),
    (f"/dataset/{DATASET}", status(200, body=b"{oops"), 1, ServerError, f"dataset {DATASET} is not a JSON object"),
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("path", "fault", "times", "kind", "said"), FAULTS)
async def test_a_fault_that_lasts(
    tmp_path: Path, path: str, fault: Handler, times: int, kind: type[DataMoverError], said: str
) -> None:
    """What is refused is told at once, what goes on failing after a few tries, with the status and GBIF's words."""
    async with serving(records=many(1)) as gbif:
        gbif.fault(path, *[fault] * TRIES)
        error = await failed(gbif, tmp_path)
        assert len(gbif.asked(path)) == times
    assert type(error) is kind
    assert said in error.message


@pytest_twisted.ensureDeferred
async def test_a_connection_that_always_breaks(tmp_path: Path) -> None:
    """A GBIF that hangs up on every search is told as that."""
    async with serving(records=many(1)) as gbif:
        gbif.fault(SEARCH, *[lambda exchange: exchange.reset()] * 20)
        assert isinstance(await failed(gbif, tmp_path), ConnectionLost)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "fault", [status(429, [("Retry-After", "0")]), status(500), BROKEN, lambda exchange: exchange.reset()]
)
@pytest.mark.parametrize("path", [f"/species/{TAXON}", SEARCH, f"/dataset/{DATASET}"])
async def test_a_fault_that_passes(tmp_path: Path, path: str, fault: Handler) -> None:
    """A request that fails and then works does not cost the dataset."""
    async with serving(records=many(400)) as gbif:
        gbif.fault(path, *[fault] * (HASTY.tries - 1))
        result, _ = await made(gbif, tmp_path)
    assert result.details["kept"] == 400


@pytest_twisted.ensureDeferred
async def test_a_pause_that_gbif_asks_for(tmp_path: Path) -> None:
    """Retry-After is waited for here while it is short; nobody asks anything before that time."""
    async with serving(records=many(700)) as gbif:
        gbif.fault(SEARCH, status(429, [("Retry-After", "1")]))
        begun = reactor.seconds()
        await made(gbif, tmp_path)
        assert reactor.seconds() - begun >= 1.0


@pytest_twisted.ensureDeferred
async def test_a_long_pause(tmp_path: Path) -> None:
    """A Retry-After that is long ends the attempt at once, and is handed on."""
    async with serving(records=many(1)) as gbif:
        gbif.fault(SEARCH, status(429, [("Retry-After", "3600")]))
        error = await failed(gbif, tmp_path)
        assert len(gbif.asked(SEARCH)) == 1
    assert isinstance(error, RateLimited)
    assert error.retry_after == 3600.0


@pytest_twisted.ensureDeferred
async def test_pages_that_lack_records(tmp_path: Path) -> None:
    """A page with fewer records than it should have is an error that may be gone next time, never a smaller dataset."""
    async with serving(records=many(400)) as gbif:
        gbif.pages(lambda page: page["results"].__delitem__(slice(100, None)))
        error = await failed(gbif, tmp_path)
    assert isinstance(error, ServerError)
    assert error.message == "GBIF sent 100 of 300 records from 0 on"


# Cancelling -------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("path", [f"/species/{TAXON}", SEARCH, f"/dataset/{DATASET}"])
async def test_cancelled_while_asking(tmp_path: Path, path: str) -> None:
    """Cancelling drops what is asked for, and leaves nothing that goes on."""
    async with serving(records=many(1000)) as gbif, reading() as http:
        dataset = dataset_of(gbif, http)
        gbif.fault(path, silent, silent)
        if path == SEARCH:
            gbif.fault(path, silent)
        bench = TestBench(tmp_path, TARGETS)
        making = Deferred.fromCoroutine(dataset.make(dataset.subject(URL), bench))
        assert await soon(lambda: bool(gbif.asked(path)))
        making.cancel()
        with pytest.raises(CancelledError):
            await making
        await dataset.abandon(bench.memory)
        asked = len(gbif.requests)
        await task.deferLater(reactor, 0.05, lambda: None)
        assert len(gbif.requests) == asked


@pytest_twisted.ensureDeferred
async def test_cancelled_while_pages_come(tmp_path: Path) -> None:
    """Cancelling while two pages are under way drops both."""
    async with serving(records=many(1000), delay=0.05) as gbif, reading() as http:
        dataset = dataset_of(gbif, http)
        making = Deferred.fromCoroutine(dataset.make(dataset.subject(URL), TestBench(tmp_path, TARGETS)))
        assert await soon(lambda: len(gbif.asked(SEARCH)) >= 3)
        making.cancel()
        with pytest.raises(CancelledError):
            await making
        asked = len(gbif.requests)
        await task.deferLater(reactor, 0.1, lambda: None)
        assert len(gbif.requests) == asked


@pytest_twisted.ensureDeferred
async def test_cancelled_while_it_waits(tmp_path: Path) -> None:
    """Cancelling ends a pause that GBIF asked for."""
    async with serving(records=many(1)) as gbif, reading() as http:
        dataset = dataset_of(gbif, http)
        gbif.fault(SEARCH, status(429, [("Retry-After", "50")]))
        making = Deferred.fromCoroutine(dataset.make(dataset.subject(URL), TestBench(tmp_path, TARGETS)))
        assert await soon(lambda: bool(gbif.asked(SEARCH)))
        await task.deferLater(reactor, 0.05, lambda: None)
        making.cancel()
        with pytest.raises(CancelledError):
            await making


# What is asked for ------------------------------------------------------------------------------------------------


def unasked() -> Gbif:
    """A dataset that asks nothing."""
    return Gbif(config.Gbif(), HttpClient.__new__(HttpClient), reactor)


@pytest.mark.parametrize("url", [URL, f"GBIF://GBIF/?taxonKey={TAXON}", f" {URL} ", "gbif://gbif?taxonKey=24%34%30012"])
def test_a_subject(url: str) -> None:
    """A URL names a taxon by its key."""
    dataset = unasked()
    subject = dataset.subject(url)
    assert (subject.dataset, subject.key, subject.shown) == ("gbif", TAXON, f"gbif:{TAXON}")
    assert (dataset.scheme, dataset.names(subject)) == ("gbif", NAMES)


@pytest.mark.parametrize(
    "url",
    [
        "gbif://gbif",
        "gbif://gbif?",
        "gbif://gbif?taxonKey",
        "gbif://gbif?taxonKey=",
        "gbif://gbif?taxonKey=0",
        "gbif://gbif?taxonKey=007",
        "gbif://gbif?taxonKey=-1",
        "gbif://gbif?taxonKey=1.5",
        "gbif://gbif?taxonKey=٣",
        "gbif://gbif?taxonKey=12345678901",
        "gbif://gbif?taxonKey=1/../2",
        "gbif://gbif?taxonKey=1&taxonKey=2",
        "gbif://gbif?taxonKey=1&x=2",
        "gbif://gbif?taxonKey=1&",
        "gbif://gbif?taxonkey=1",
        "gbif://gbif?taxonKey=1#x",
        "gbif://gbif/x?taxonKey=1",
        "gbif://other?taxonKey=1",
        "gbif://me:pw@gbif?taxonKey=1",
        "gbif:?taxonKey=1",
        "gbif://[gbif?taxonKey=1",
        "ala://gbif?taxonKey=1",
        "",
    ],
)
def test_no_subject(url: str) -> None:
    """Anything else is refused with what was expected, and its value is not repeated."""
    with pytest.raises(InvalidRequest, match=r"gbif://gbif\?taxonKey=2440012"):
        unasked().subject(url)


def test_the_section(tmp_path: Path) -> None:
    """[gbif] alone is enough; without it there is none; a bad URL is refused with what was expected."""
    file = tmp_path / "datamover.toml"
    file.write_text("")
    assert config.load(file).gbif is None
    file.write_text("[gbif]\n")
    assert config.load(file).gbif == config.Gbif()
    assert config.Gbif().url == "https://api.gbif.org/v1"
    file.write_text('[gbif]\nurl = "https://gbif.example.org/v1/"\nbad_issues = ["ZERO_COORDINATE"]\n')
    gbif = config.load(file).gbif
    assert gbif is not None
    assert (gbif.url, gbif.bad_issues) == ("https://gbif.example.org/v1", ("ZERO_COORDINATE",))
    for text, said in [
        ('url = "api.gbif.org"', r"gbif\.url = 'api\.gbif\.org': expected an http\(s\) URL"),
        ('bad_issues = "X"', "expected an array"),
        ("pages = 3", "unknown key"),
    ]:
        file.write_text(f"[gbif]\n{text}\n")
        with pytest.raises(ConfigError, match=said):
            config.load(file)
