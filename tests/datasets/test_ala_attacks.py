"""An Atlas that answers anything: what that costs is bounded, and each answer ends in a named error or the dataset."""

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st

from datamover.datasets.ala.answers import status_of
from datamover.datasets.ala.species import _taxon
from datamover.errors import DataMoverError, DatasetInvalid
from datamover.web.url import WebUrl
from tests.datasets.atlas import TARGETS, atlas, refused
from tests.datasets.bench import TestBench
from tests.servers.ala import LSID

URL = WebUrl.parse("https://atlas.example.org/status/1")
KEYS = [
    *("status", "message", "error", "totalRecords", "records", "queueSize"),
    *("statusUrl", "cancelUrl", "searchUrl", "downloadUrl"),
]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=20),
    st.sampled_from(["\x00", "\ud800", "https://[", "//", "https://a.example.org/" + "b" * 70_000, "9" * 400]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@given(st.dictionaries(st.sampled_from(KEYS), ODD))
def test_whatever_a_status_holds(told: dict[str, Any]) -> None:
    """It is read, or refused in a sentence; a URL that is kept is one that can be requested, and has a bound."""
    body = json.dumps(told).encode("ascii")
    try:
        status = status_of(body, URL)
    except DatasetInvalid as error:
        said = error.message
    else:
        said = f"{status.shown}{status.words}{status.word}"
        for url in (status.status_url, status.cancel_url, status.search_url, status.download_url):
            assert url is None or (len(url) < 300_000 and WebUrl.parse(url).text == url)
    assert said.isprintable()
    assert len(said) < 1000


@given(st.dictionaries(st.sampled_from(["nameString", "scientificName", "commonNames", "commonNameSingle", "x"]), ODD))
def test_whatever_a_taxon_holds(found: dict[str, Any]) -> None:
    """Its names are printable and of a bounded length, and its answer is JSON."""
    try:
        taxon = _taxon(found, None, LSID)
    except DataMoverError:
        return
    assert taxon.shown.isprintable()
    assert len(taxon.shown) < 700
    json.loads(taxon.answer)


@pytest.mark.parametrize(
    "entry",
    [
        {"guid": [], "nameString": "Macropus"},
        {"guid": {}, "nameString": "Macropus"},
        {"guid": LSID, "nameString": "Macropus \ud800\x00", "commonNameSingle": "\udfff"},
    ],
)
@pytest_twisted.ensureDeferred
async def test_names_of_odd_kinds(tmp_path: Path, entry: dict[str, Any]) -> None:
    """In a look-up of several taxa as well, what is no name is none."""
    async with atlas(species_lookup="bulk") as (server, ala):
        server.fail("bulk", 200, json.dumps([entry]).encode("ascii"))
        made = await ala.make(ala.subject(f"ala://ala?lsid={LSID}"), TestBench(tmp_path, TARGETS))
        assert "Macropus" in made.paths[2].read_text("utf-8")


@pytest.mark.parametrize("step", ["species", "bulk", "ask", "status"])
@pytest_twisted.ensureDeferred
async def test_answers_that_are_too_large(tmp_path: Path, step: str) -> None:
    """No more of them is read, and parsed, than has a bound, though it is told as nothing but empty lists."""
    async with atlas(species_lookup="bulk" if step == "bulk" else "single") as (server, ala):
        server.fail(step, 200, b"[" + b"[]," * 500_000 + b"[]]")
        error = await refused(ala, TestBench(tmp_path, TARGETS))
    assert (error.code, error.retryable) == ("DATASET_INVALID", False)
    assert "more than 1048576 bytes" in error.message
