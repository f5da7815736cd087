"""Which taxon of GBIF's is asked for, and the section of the configuration."""

import time
from pathlib import Path

import pytest
from twisted.internet import reactor

from datamover.config import schema
from datamover.config.load import load
from datamover.datasets.configured import CONFIG
from datamover.datasets.gbif.dataset import NAMES, Gbif
from datamover.datasets.gbif.section import GbifSection
from datamover.errors import (
    ConfigError,
    InvalidRequest,
)
from datamover.protocols.http import HttpClient
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import SourcePolicy
from tests.datasets.kangaroos import TAXON, URL


def unasked() -> Gbif:
    """A dataset that asks nothing."""
    policy = SourcePolicy.from_config(schema.Sources())
    http = HttpClient(reactor, schema.Http(), schema.Transfers(), policy, SourceCredentials())
    return Gbif(GbifSection(), http, reactor, time.time)


@pytest.mark.parametrize("url", [URL, f"GBIF://GBIF/?taxonKey={TAXON}", f" {URL} ", "gbif://gbif?taxonKey=24%34%30012"])
def test_a_subject(url: str) -> None:
    """A URL names a taxon by its key."""
    dataset = unasked()
    subject = dataset.subject(url)
    assert (subject.dataset, subject.key, subject.shown) == ("gbif", TAXON, f"gbif:{TAXON}")
    assert dataset.names(subject) == NAMES


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
    assert load(file, CONFIG).declared == {}
    file.write_text("[gbif]\n")
    assert load(file, CONFIG).declared["gbif"] == GbifSection()
    assert GbifSection().url == "https://api.gbif.org/v1"
    file.write_text('[gbif]\nurl = "https://gbif.example.org/v1/"\nbad_issues = ["ZERO_COORDINATE"]\n')
    gbif = load(file, CONFIG).declared["gbif"]
    assert isinstance(gbif, GbifSection)
    assert (gbif.url, gbif.bad_issues) == ("https://gbif.example.org/v1", ("ZERO_COORDINATE",))
    for text, said in [
        ('url = "api.gbif.org"', r"gbif\.url = 'api\.gbif\.org': expected an http\(s\) URL"),
        ('bad_issues = "X"', "expected an array"),
        ("pages = 3", "unknown key"),
    ]:
        file.write_text(f"[gbif]\n{text}\n")
        with pytest.raises(ConfigError, match=said):
            load(file, CONFIG)
