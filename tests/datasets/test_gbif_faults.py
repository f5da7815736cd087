"""What a dataset of GBIF's comes to where GBIF refuses, fails or dawdles, or nobody wants it any more."""

from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.defer import CancelledError, Deferred

from datamover.errors import (
    ConnectionLost,
    DataMoverError,
    DatasetEmpty,
    DatasetInvalid,
    DatasetNotFound,
    RateLimited,
    ServerError,
    SourceForbidden,
)
from tests.datasets.bench import TestBench
from tests.datasets.kangaroos import HASTY, SEARCH, TARGETS, TAXON, URL, dataset_of, failed, made, many, serving
from tests.protocols.reading import reading, soon
from tests.servers.gbif import DATASET, record
from tests.servers.web import Handler, redirect, silent, status

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
    (SEARCH, status(200, body=b'{"count": 9007199254740993}'), 1, ServerError, "more records than there can be"),
    (SEARCH, status(200, body=b'{"count": 1%b}' % (b"0" * 5000)), 1, ServerError, "something else than a JSON object"),
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
