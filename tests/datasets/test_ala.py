"""Occurrences from the Atlas: the way that goes well, both of the Atlas's ways, and both look-ups."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_twisted
from twisted.internet import defer
from twisted.internet.defer import gatherResults

from datamover.errors import DatasetNotFound
from tests.datasets.atlas import TARGETS, Hasty, asking, atlas, names_in, refused, rows_of, subject
from tests.datasets.bench import TestBench
from tests.servers.ala import EMAIL, GOOD_ROWS, LABELS, LSID, records_csv, records_zip


@pytest_twisted.ensureDeferred
async def test_the_three_files(tmp_path: Path) -> None:
    """Occurrences are clean, the metadata are the Atlas's own words, and the description tells of both."""
    async with atlas() as (server, ala):
        server.archive = records_zip(
            records_csv([*GOOD_ROWS, ("", "1", *GOOD_ROWS[0][2:]), ("200", "1", *GOOD_ROWS[0][2:])]),
            doi="https://doi.org/10.26197/5c0f",
        )
        bench = TestBench(tmp_path, TARGETS)
        made = await ala.make(subject(), bench)
        _, answer = await ala._client.get(f"{server.species_url}/species/{LSID}")
        url = server.url
    assert [path.name for path in made.paths] == list(ala.names(subject()))
    assert rows_of(made) == [
        ["species", "lon", "lat", "uncertainty", "date", "year", "month"],
        ["Macropus rufus", "149.1", "-35.3", "100.0", "2012-03-04", "2012", "03"],
        ["Macropus rufus", "115.86", "-31.95", "", "1999-12-31", "1999", "12"],
    ]
    assert made.paths[1].read_bytes() == answer
    day = datetime.now(UTC).strftime("%d/%m/%Y")
    sizes = [path.stat().st_size for path in made.paths]
    digests = [f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in made.paths]
    assert json.loads(made.paths[2].read_bytes()) == {
        "title": "Red Kangaroo (Macropus rufus) occurrences",
        "description": f"Observed occurrences for Red Kangaroo (Macropus rufus), imported from ALA on {day}",
        "num_occurrences": 2,
        "files": [
            {"url": TARGETS[0], "dataset_type": "occurrence", "size": sizes[0], "digest": digests[0]},
            {"url": TARGETS[1], "dataset_type": "attribution", "size": sizes[1], "digest": digests[1]},
        ],
        "provenance": {
            "source": "ALA",
            "url": f"{url}/occurrences/search?q=lsid:{LSID}",
            "source_date": day,
            "doi": "https://doi.org/10.26197/5c0f",
        },
        "bounds": [115.86, -35.3, 149.1, -31.95],
        "rows_dropped": {"placeless": 1, "out of range": 1},
    }
    assert made.paths[2].read_text("utf-8").startswith('{\n    "title"')
    assert made.details == {
        "read": 4,
        "kept": 2,
        "dropped": {"placeless": 1, "out of range": 1},
        "doi": "https://doi.org/10.26197/5c0f",
    }
    assert names_in(tmp_path) == sorted(path.name for path in made.paths)


@pytest_twisted.ensureDeferred
async def test_what_is_asked(tmp_path: Path) -> None:
    """The request for records carries every parameter; the taxon costs one GET."""
    async with atlas() as (server, ala):
        await ala.make(subject(), TestBench(tmp_path, TARGETS))
        assert (server.count("species"), server.count("ask"), server.count("download")) == (1, 1, 1)
        asked = parse_qs(urlsplit(server.of("ask")[0].target).query)
    assert asked == {
        "q": [f"lsid:{LSID}"],
        "fields": [
            "decimalLongitude,decimalLatitude,coordinateUncertaintyInMeters,eventDate,year,month,"
            "speciesID,scientificName"
        ],
        "qa": ["all"],
        "reasonTypeId": ["4"],
        "sourceTypeId": ["2002"],
        "email": [EMAIL],
        "file": ["data"],
        "fileType": ["csv"],
        "emailNotify": ["false"],
        "dwcHeaders": ["true"],
    }


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("leave_out_nulls", [False, True])
async def test_the_stages_in_words(tmp_path: Path, leave_out_nulls: bool) -> None:
    """Who asks how far it is reads where the Atlas is, in numbers where it tells them, nulls or not."""
    async with atlas() as (server, ala):
        server.leave_out_nulls = leave_out_nulls
        bench = TestBench(tmp_path, TARGETS)
        await ala.make(subject(), bench)
    stages = list(dict.fromkeys(bench.stages))
    assert stages[:4] == [
        "ALA: looking up the taxon",
        "ALA: asking for the records",
        "ALA: queued, 3 ahead",
        "ALA: running, 12,000 of 40,000 records",
    ]
    assert any(stage.startswith("cleaning") for stage in stages)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("common", ["Red Kangaroo", None])
@pytest.mark.parametrize("lookup", ["single", "bulk"])
@pytest.mark.parametrize("mode", ["offline", "direct"])
async def test_every_way(tmp_path: Path, mode: str, lookup: str, common: str | None) -> None:
    """Both ways to the records and both to the names give the same dataset."""
    async with atlas(mode=mode, species_lookup=lookup) as (server, ala):
        server.know(common=common)
        made = await ala.make(subject(), TestBench(tmp_path, TARGETS))
        assert server.count("direct") == (mode == "direct")
        assert server.count("ask") == (mode == "offline")
        assert (server.count("species"), server.count("bulk")) == ((1, 0) if lookup == "single" else (0, 1))
    assert len(rows_of(made)) == 3
    title = json.loads(made.paths[2].read_bytes())["title"]
    assert title == ("Red Kangaroo (Macropus rufus) occurrences" if common else "Macropus rufus occurrences")
    assert "Macropus rufus" in made.paths[1].read_text("utf-8")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "content",
    [
        records_csv(header=LABELS),
        records_csv(quoted=True, bom=True, newline="\r\n"),
        records_csv(header=[name.upper() for name in LABELS], quoted=True),
    ],
)
async def test_every_header(tmp_path: Path, content: bytes) -> None:
    """Darwin Core's terms and the labels of other years mean the same columns, quoted or not."""
    async with atlas() as (server, ala):
        server.archive = records_zip(content, extras=False)
        made = await ala.make(subject(), TestBench(tmp_path, TARGETS))
    assert [row[:3] for row in rows_of(made)[1:]] == [
        ["Macropus rufus", "149.1", "-35.3"],
        ["Macropus rufus", "115.86", "-31.95"],
    ]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("whole", [True, False])
async def test_a_download_that_is_there_at_once(tmp_path: Path, whole: bool) -> None:
    """A request that is finished when it is made is not looked at again; a URL may be relative."""
    async with atlas() as (server, ala):
        path = "/downloads/1/data.zip"
        server.first_answer = {"status": "finished", "downloadUrl": f"{server.url}{path}" if whole else path}
        bench = TestBench(tmp_path, TARGETS)
        made = await ala.make(subject(), bench)
        assert server.count("status") == 0
        provenance = json.loads(made.paths[2].read_bytes())["provenance"]
        assert provenance["url"] == f"{server.occurrences_url}/occurrences/search?q=lsid%3A{LSID.replace(':', '%3A')}"
    assert "doi" not in provenance
    assert bench.memory["download_url"].endswith(path)


@pytest_twisted.ensureDeferred
async def test_looks_are_further_and_further_apart(tmp_path: Path) -> None:
    """The first look comes after the interval, each later one after a longer pause, up to a minute; errors likewise."""
    clock = Hasty()
    async with atlas(clock=clock, poll_interval=5) as (server, ala):
        server.looks_until_ready = 20
        server.fail("status", 429, "slow down", times=1, headers=[("Retry-After", "45")])
        server.fail("status", 500, times=1)
        await ala.make(subject(), TestBench(tmp_path, TARGETS))
        assert server.count("status") == len(clock.pauses) == 22
    first, heeded, *later = clock.pauses
    assert (first, heeded) == (5.0, 45.0)
    assert later[0] > 6
    assert later == sorted(later)
    assert later[-1] == 60.0


@pytest_twisted.ensureDeferred
async def test_many_taxa_are_looked_up_by_the_hundred(tmp_path: Path) -> None:
    """Two hundred and fifty look-ups at once are three requests, none for more than a hundred taxa."""
    async with atlas(species_lookup="bulk") as (server, ala):
        lsids = [f"urn:lsid:example.org:taxon:{number}" for number in range(250)]
        for lsid in lsids:
            server.know(lsid, name=f"Species {lsid[-3:]}", common=None)
        found = await gatherResults([defer.ensureDeferred(ala._species.look_up(lsid)) for lsid in lsids])
        assert [taxon.name for taxon in found] == [f"Species {lsid[-3:]}" for lsid in lsids]
        assert [len(json.loads(request.body)) for request in server.of("bulk")] == [100, 100, 50]


@pytest_twisted.ensureDeferred
async def test_one_unknown_among_many() -> None:
    """A null in the list is that taxon's trouble alone."""
    async with atlas(species_lookup="bulk") as (server, ala):
        unknown = "urn:lsid:example.org:taxon:none"
        known, missing = (
            defer.ensureDeferred(ala._species.look_up(LSID)),
            defer.ensureDeferred(ala._species.look_up(unknown)),
        )
        assert (await known).common_name == "Red Kangaroo"
        with pytest.raises(DatasetNotFound, match=unknown):
            await missing
        assert server.count("bulk") == 1


@pytest_twisted.ensureDeferred
async def test_a_look_up_that_is_wanted_no_more() -> None:
    """Who is cancelled before the batch is sent leaves nothing behind, and asks nothing."""
    async with atlas(species_lookup="bulk") as (server, ala):
        waiting = defer.ensureDeferred(ala._species.look_up(LSID))
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        await waiting
        assert server.count("bulk") == 0


@pytest_twisted.ensureDeferred
async def test_an_older_species_service(tmp_path: Path) -> None:
    """Where a taxon's JSON is at .json alone, it is found there."""
    async with atlas() as (server, ala):
        server.json_suffix = True
        made = await ala.make(subject(), TestBench(tmp_path, TARGETS))
    assert json.loads(made.paths[1].read_bytes())["taxonConcept"]["nameString"] == "Macropus rufus"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("mode", ["offline", "direct"])
async def test_the_token_goes_to_the_atlas_alone(tmp_path: Path, mode: str) -> None:
    """The token of the file goes to the configured origin, and neither elsewhere nor into a message."""
    token = tmp_path / "token"
    token.write_text("t0k3n\n")
    token.chmod(0o600)
    (tmp_path / "bench").mkdir()
    bench = TestBench(tmp_path / "bench", TARGETS)
    async with atlas(token_file=str(token), mode=mode) as (server, ala), atlas() as (other, _):
        server.token = "t0k3n"
        if mode == "offline":
            server.script = [{"status": "finished", "downloadUrl": f"{other.url}/downloads/1/data.zip"}]
            # The other's address is neither public nor configured.
            assert (await refused(ala, bench)).code == "SOURCE_NOT_ALLOWED"
        async with asking(server, trust=(other.url,), token_file=str(token), mode=mode) as trusting:
            await trusting.make(subject(), bench)
        assert len(other.requests) == (mode == "offline")
        assert all("authorization" not in request.headers for request in other.requests)
        server.fail("ask", 403, "the token t0k3n is stale")
        server.fail("direct", 403, "the token t0k3n is stale")
        error = await refused(ala, TestBench(tmp_path / "bench", TARGETS))
    assert "the token … is stale" in error.message
