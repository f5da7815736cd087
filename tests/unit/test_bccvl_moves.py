"""The shapes that ``move`` took over the years, and the original's words of refusal."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from xmlrpc.client import Binary

import pytest
from twisted.internet.task import Clock

from datamover.api.context import Caller
from datamover.api.methods.moves import Moves
from datamover.config.schema import Config, DestinationTable
from datamover.errors import RequestError, RequestTooLarge
from datamover.jobs.values import Naming, NewFile, NewJob, Overwrite, PlaceSource, UrlSource
from datamover.registry.destinations import Registry
from datamover.requests.coercion import WrittenInt
from datamover.requests.files import Rules
from datamover.requests.jobs import finish
from tests.unit.test_requests import read_url

URL = "http://example.org/maps/a.zip"
WEB = UrlSource(URL, URL)
LSID = "urn:lsid:biodiversity.org.au:afd.taxon:31a9b8b8-4e8f-4343-a15f-2ed24e0bf1ae"


@pytest.fixture
def moves(tmp_path: Path) -> Moves:
    """Two places, /…/visualiser and /…/compute, one that this client may not use, and two in a container."""
    names = ("visualiser", "compute", "vault")
    tables = {name: DestinationTable(url=(tmp_path / name).as_uri()) for name in names}
    swift = {
        "auth_url": "https://login.example.org:5000/v3",
        "storage_url": "https://store.example.org/v1/AUTH_1",
        "username": "portal",
        "project": "data",
        "password_file": tmp_path / "password",
    }
    tables |= {
        name: DestinationTable.model_validate({"url": f"swift://data{prefix}", **swift})
        for name, prefix in (("store", ""), ("below", "/deep"))
    }
    rules = Rules("portal", dict.fromkeys(tables, 255), (*names[:2], "store", "below"), read_url, 10, 7)
    caller = Caller("portal", administrator=False, destinations=(*names[:2], "store", "below"))
    config = Config(destinations=tables)
    return Moves(Registry.from_config(config, Clock()), rules, caller)


def job_of(moves: Moves, call: tuple[Any, ...]) -> NewJob:
    """Return the job that a call asks for, parameters that are left out being nil."""
    return finish(moves.read(*call, *[None] * (3 - len(call))))


def asked(*files: NewFile, archive: str | None = None) -> NewJob:
    return NewJob("portal", files, Overwrite.ALWAYS, archive, "move", max_attempts=7)


def probe(path: str = "data/a.zip", source: Any = WEB, destination: str = "visualiser") -> NewFile:
    return NewFile(source, destination, path, Naming.PROBE)


def into(path: str = "data", source: Any = WEB, destination: str = "visualiser") -> NewFile:
    return NewFile(source, destination, path, Naming.INTO)


TO = {"host": "visualiser", "path": "data/a.zip"}
SCP = "scp://visualiser/data/a.zip"
ON_COMPUTE = PlaceSource("compute", "out/b.tif")

SHAPES: list[tuple[tuple[Any, ...], NewJob]] = [
    # 2013-09: the destination first
    ((TO, {"type": "url", "id": URL}), asked(probe())),
    ((TO, {"type": "url", "url": URL}), asked(probe())),
    # 2013-10
    (({"type": "url", "url": URL}, TO), asked(probe())),
    (({"type": "url", "url": URL}, {**TO, "path": "data/"}), asked(into())),
    (({"type": "url", "url": URL}, {**TO, "path": "/data/"}), asked(into())),
    (({"type": "url", "url": URL}, {**TO, "path": "/"}), asked(into(""))),
    (({"type": "url", "url": URL}, {**TO, "zip": True}), asked(probe(), archive="bagit")),
    (({"type": "url", "url": URL}, {**TO, "zip": False}), asked(probe())),
    (({"type": "url", "url": URL}, {**TO, "zip": None}), asked(probe())),
    (({"type": "scp", "host": "compute", "path": "/out/b.tif"}, TO), asked(probe(source=ON_COMPUTE))),
    (
        (
            {
                "type": "mixed",
                "sources": [{"type": "url", "url": URL}, {"type": "scp", "host": "compute", "path": "out/b.tif"}],
            },
            {**TO, "path": "data", "zip": True},
        ),
        asked(probe("data"), probe("data", ON_COMPUTE), archive="bagit"),
    ),
    (({"type": "url", "url": URL, "host": None, "path": None}, {**TO, "type": None}), asked(probe())),
    (({**TO, "type": None}, {"type": "url", "id": URL, "url": None}), asked(probe())),
    (({"type": "url", "url": URL}, {**TO, "zip": 1}), asked(probe(), archive="bagit")),
    (({"type": "url", "url": URL}, {**TO, "path": 2026}), asked(probe("2026"))),
    (({"type": "url", "url": URL}, {**TO, "path": WrittenInt.read("007")}), asked(probe("007"))),
    (({"type": "scp", "host": "compute", "path": 7}, TO), asked(probe(source=PlaceSource("compute", "7")))),
    # 2014-06
    ((URL, SCP), asked(probe())),
    ((URL, SCP, False), asked(probe())),
    ((URL, SCP, None), asked(probe())),
    ((URL, SCP, True), asked(probe(), archive="bagit")),
    ((URL, SCP, 1), asked(probe(), archive="bagit")),
    ((URL, SCP, "1"), asked(probe(), archive="bagit")),
    ((URL, SCP, 0), asked(probe())),
    ((URL, SCP, "0"), asked(probe())),
    ((URL, SCP, ""), asked(probe())),
    ((Binary(URL.encode()), Binary("scp://visualiser/grün".encode())), asked(probe("grün"))),
    (([URL], SCP), asked(probe())),
    (([URL, "scp://compute/out/b.tif"], "scp://visualiser/data"), asked(into(), into(source=ON_COMPUTE))),
    (
        ([URL, "scp://compute/out/b.tif"], "scp://visualiser/data/", True),
        asked(into(), into(source=ON_COMPUTE), archive="bagit"),
    ),
    ((URL, "scp://visualiser/data/"), asked(into())),
    ((URL, "SCP://visualiser:22/data/"), asked(into())),
    ((URL, "scp://visualiser/"), asked(into(""))),
    ((URL, "scp://visualiser/R%C3%A4ume/x%20y#1?2"), asked(probe("Räume/x y#1?2"))),
    (("scp://compute/out/b.tif", SCP), asked(probe(source=ON_COMPUTE))),
    (("swift+http://store.example.org/data/a/b.tif", SCP), asked(probe(source=PlaceSource("store", "a/b.tif")))),
    (("swift+https://login.example.org:5000/data/b%20c?", SCP), asked(probe(source=PlaceSource("store", "b c?")))),
    (("swift+http://portal@store.example.org/data/a", SCP), asked(probe(source=PlaceSource("store", "a")))),
    (("swift+https://STORE.example.org/v1/AUTH_1/data/a", SCP), asked(probe(source=PlaceSource("store", "a")))),
    (("swift+https://store.example.org/data/deep/a", SCP), asked(probe(source=PlaceSource("below", "a")))),
    (("swift+http://store/data/a", SCP), asked(probe(source=PlaceSource("store", "a")))),
    (("swift+http://portal@below/v1/AUTH_1/data/a", SCP), asked(probe(source=PlaceSource("below", "a")))),
    ((URL, "swift+http://store.example.org/data/a/"), asked(into("a", destination="store"))),
    ((URL, "swift+http://store.example.org/data"), asked(into("", destination="store"))),
    ((URL, "swift+https://store.example.org/v1/AUTH_1/data/deep/a"), asked(probe("a", destination="below"))),
    ((f"{URL}?key=s3cret", SCP), asked(probe(source=UrlSource(f"{URL}?key=s3cret", f"{URL}?key=***")))),
]


@pytest.mark.parametrize(("call", "job"), SHAPES, ids=range(len(SHAPES)))
def test_every_shape_of_every_era_is_understood(moves: Moves, call: tuple[Any, ...], job: NewJob) -> None:
    """Which argument is which follows from its shape; what is there is replaced."""
    assert job_of(moves, call) == job


def test_a_path_below_the_root_is_taken_as_absolute(moves: Moves, tmp_path: Path) -> None:
    """A path that begins with the destination's root is that path, any other is below the root."""
    root = str(tmp_path / "visualiser")
    [file] = job_of(moves, (URL, f"scp://visualiser{root}/deep/a.zip")).files
    assert (file.path, file.naming) == ("deep/a.zip", Naming.PROBE)
    [file] = job_of(moves, (URL, f"scp://visualiser{root}/")).files
    assert (file.path, file.naming) == ("", Naming.INTO)


URL_SOURCE = {"type": "url", "url": URL}
WORDS: list[tuple[tuple[Any, ...], str]] = [
    ((None, None), "Missing or incorrect parameter 'source and destination must not be None'"),
    ((URL, None), "Missing or incorrect parameter 'source and destination must not be None'"),
    ((None, SCP), "Missing or incorrect parameter 'source and destination must not be None'"),
    (("x", TO), "Missing or incorrect parameter 'source must be of type dict'"),
    ((TO, "x"), "Missing or incorrect parameter 'source must be of type dict'"),
    (([URL], TO), "Missing or incorrect parameter 'source must be of type dict'"),
    (({}, TO), "Missing or incorrect parameter 'source must specify a type'"),
    (([], TO), "Missing or incorrect parameter 'source must specify a type'"),
    ((TO, []), "Missing or incorrect parameter 'source must specify a type'"),
    ((URL_SOURCE, []), "Missing or incorrect parameter 'destination must specify a host and path'"),
    ((URL_SOURCE, {**TO, "path": None}), "Missing or incorrect parameter 'destination must specify a host and path'"),
    ((URL_SOURCE, {**TO, "path": True}), "Missing or incorrect parameter 'destination must specify a host and path'"),
    (
        ({"type": "scp", "host": "compute", "path": None}, TO),
        "Missing or incorrect parameter 'host and path must be provided with scp source'",
    ),
    (
        ({"type": "mixed", "sources": None}, TO),
        "Missing or incorrect parameter 'sources must be provided with mixed source'",
    ),
    (({"type": "mixed", "sources": {}}, TO), "Invalid parameter 'no sources selected'"),
    (({"type": "mixed", "sources": [[]]}, TO), "Missing or incorrect parameter 'source must specify a type'"),
    (({"type": "ala", "lsid": None}, TO), "Missing or incorrect parameter 'lsid must be provided with ala source'"),
    (({"type": "url", "url": None}, TO), "Missing or incorrect parameter 'url must be provided with url source'"),
    (({"type": None}, TO), "Missing or incorrect parameter 'source must specify a type'"),
    ((TO, TO), "Missing or incorrect parameter 'source must specify a type'"),
    ((TO, {}), "Missing or incorrect parameter 'source must specify a type'"),
    (({"type": "ala"}, TO), "Missing or incorrect parameter 'lsid must be provided with ala source'"),
    (({"type": "url"}, TO), "Missing or incorrect parameter 'url must be provided with url source'"),
    (({"type": "url", "url": 5}, TO), "Missing or incorrect parameter 'url must be provided with url source'"),
    (
        ({"type": "scp", "host": "compute"}, TO),
        "Missing or incorrect parameter 'host and path must be provided with scp source'",
    ),
    (
        ({"type": "scp", "path": "x"}, TO),
        "Missing or incorrect parameter 'host and path must be provided with scp source'",
    ),
    (({"type": "mixed"}, TO), "Missing or incorrect parameter 'sources must be provided with mixed source'"),
    (({"type": "mixed", "sources": "x"}, TO), "Missing or incorrect parameter 'sources must be of list type'"),
    (({"type": "mixed", "sources": []}, TO), "Invalid parameter 'no sources selected'"),
    (({"type": "mixed", "sources": ["x"]}, TO), "Missing or incorrect parameter 'source must be of type dict'"),
    (
        ({"type": "mixed", "sources": [URL_SOURCE, {"type": "mixed", "sources": []}]}, TO),
        "Invalid parameter 'mixed sources may not be nested'",
    ),
    (
        ({"type": "mixed", "sources": [{"type": "ala", "lsid": LSID}] * 2}, TO),
        "Too many ALA jobs. Mixed sources can only contain a maximum of one ALA job.",
    ),
    (
        ([f"ala://ala?lsid={LSID}"] * 2, SCP),
        "Too many ALA jobs. Mixed sources can only contain a maximum of one ALA job.",
    ),
    (({"type": "ala", "lsid": LSID}, TO), "ALA sources are not configured"),
    ((f"ala://ala?lsid={LSID}", SCP), "ALA sources are not configured"),
    (("ala://ala", SCP), "Missing or incorrect parameter 'source ALA LSID'"),
    (("ala://ala?lsid=kangaroo", SCP), "Missing or incorrect parameter 'source ALA LSID'"),
    (({"type": "ftp"}, TO), "Unknown source type 'ftp'"),
    (({"type": 5}, TO), "Unknown source type '5'"),
    (({"type": "scp", "host": "nowhere", "path": "x"}, TO), "Unknown source 'nowhere'"),
    ((URL_SOURCE, "x"), "Missing or incorrect parameter 'destination must be of type dict'"),
    ((URL_SOURCE, 5), "Missing or incorrect parameter 'destination must be of type dict'"),
    ((URL_SOURCE, {"host": "visualiser"}), "Missing or incorrect parameter 'destination must specify a host and path'"),
    ((URL_SOURCE, {"path": "x"}), "Missing or incorrect parameter 'destination must specify a host and path'"),
    ((URL_SOURCE, {**TO, "host": "nowhere"}), "Unknown destination 'nowhere'"),
    ((URL_SOURCE, {**TO, "zip": "yes"}), "Invalid parameter 'zip must be of type bool'"),
    ((URL, SCP, 2), "Invalid parameter 'zip must be of type bool'"),
    ((URL, SCP, "2"), "Invalid parameter 'zip must be of type bool'"),
    ((URL, SCP, 1.0), "Invalid parameter 'zip must be of type bool'"),
    ((URL, SCP, []), "Invalid parameter 'zip must be of type bool'"),
    ((URL, True), "Missing or incorrect parameter 'destination must be of type str'"),
    ((5, SCP), "Invalid parameter 'source must be of type str or list'"),
    (([5], SCP), "Invalid parameter 'source must be of type str or list'"),
    (([], SCP), "Invalid parameter 'no sources selected'"),
    ((URL, 5), "Missing or incorrect parameter 'destination must be of type str'"),
    ((URL, [SCP]), "Missing or incorrect parameter 'destination must be of type str'"),
    (("swift+http://host/c/o", SCP), "Unknown source 'host'"),
    (("swift+http://store.example.org/other/o", SCP), "Unknown source 'store.example.org'"),
    (("swift+http://nobody@store.example.org/data/o", SCP), "Unknown source 'store.example.org'"),
    (("swift+http://store/other/o", SCP), "Unknown source 'store'"),
    (("scp://data/o", SCP), "Unknown source 'data'"),
    (("swift+http://nobody@store/data/o", SCP), "Unknown source 'store'"),
    (("swift+http://compute/data/o", SCP), "Unknown source 'compute'"),
    (
        ("swift+http://portal:pw@store.example.org/data/o", SCP),
        "Invalid parameter 'source must not hold a password: leave it out'",
    ),
    (("swift+http:///data/o", SCP), "Host not specified in 'source'"),
    (("swift+http://store.example.org", SCP), "Path not specified in 'source'"),
    (("swift+http://store.example.org/data/", SCP), "Path not specified in 'source'"),
    (("swift://data/o", SCP), "Unknown source URL scheme 'swift'"),
    (("file:///etc/passwd", SCP), "Unknown source URL scheme 'file'"),
    (("kangaroo", SCP), "Unknown source URL scheme ''"),
    (({"type": "url", "url": "file:///etc/passwd"}, TO), "Unknown source URL scheme 'file'"),
    ((URL, "swift+https://host/c/o"), "Unknown destination 'host'"),
    ((URL, "http://visualiser/x"), "Unknown destination URL scheme 'http'"),
    ((URL, "visualiser"), "Unknown destination URL scheme ''"),
    (("scp://nowhere/x", SCP), "Unknown source 'nowhere'"),
    ((URL, "scp://nowhere/x"), "Unknown destination 'nowhere'"),
    ((URL, "swift+http://store.example.org/v1/AUTH_other/data/o"), "Unknown destination 'store.example.org'"),
    ((URL, "scp://root@visualiser/x"), "Unknown destination 'visualiser'"),
    (("scp:///x", SCP), "Host not specified in 'source'"),
    (("scp://", SCP), "Host not specified in 'source'"),
    (("http:///x", SCP), "Host not specified in 'source'"),
    (("scp://compute", SCP), "Path not specified in 'source'"),
    (("scp://compute/", SCP), "Path not specified in 'source'"),
    (("http://example.org", SCP), "Path not specified in 'source'"),
    ((URL, "scp:///x"), "Host not specified in 'destination'"),
    ((URL, "scp://visualiser"), "Path not specified in 'destination'"),
]


@pytest.mark.parametrize(("call", "reason"), WORDS, ids=range(len(WORDS)))
def test_a_refusal_has_the_words_that_clients_know(moves: Moves, call: tuple[Any, ...], reason: str) -> None:
    """Each is the sentence of the original's last years, to the letter."""
    with pytest.raises(RequestError) as caught:
        job_of(moves, call)
    assert caught.value.message == reason


OTHERS: list[tuple[tuple[Any, ...], str]] = [
    ((URL, "scp://visualiser/../x"), "leaves destination 'visualiser'"),
    ((URL, "scp://visualiser/%2e%2e/x"), "leaves destination 'visualiser'"),
    ((URL, "scp://visualiser/a%00b"), "holds a NUL"),
    (("scp://compute/a/../../b", SCP), "leaves destination 'compute'"),
    ((URL_SOURCE, {**TO, "path": "../x"}), "leaves destination 'visualiser'"),
    ((URL, "scp://vault/x"), "client 'portal' may not use destination 'vault'"),
    (("scp://vault/x", SCP), "client 'portal' may not use destination 'vault'"),
    ((URL, "scp://root:s3cret@visualiser/x"), "destination must not hold a password"),
    (("scp://root:s3cret@compute/x", SCP), "source must not hold a password"),
    (("http://u:s3cret@example.org/x", SCP), "user name or password"),
    (("http://127.0.0.1/x?key=s3cret", SCP), "http://127.0.0.1/x?key=*** is not an allowed source"),
    (([URL, URL], "scp://visualiser/data/"), "sources[1] and sources[0] have the same target 'data/a.zip'"),
    (([f"{URL}{n}" for n in range(11)], SCP), "11 sources: expected at most 10; move the rest with further calls"),
]


@pytest.mark.parametrize(("call", "reason"), OTHERS, ids=range(len(OTHERS)))
def test_what_the_old_words_do_not_cover_is_refused_all_the_same(
    moves: Moves, call: tuple[Any, ...], reason: str
) -> None:
    """Paths out of the root, places of others, passwords and sources that are not allowed; no secret is repeated."""
    with pytest.raises(RequestError) as caught:
        job_of(moves, call)
    assert reason in caught.value.message
    assert "s3cret" not in caught.value.message


def test_how_many_sources_one_call_may_name(moves: Moves) -> None:
    """However many files ``jobs.submit`` takes; refused before any of them is looked at."""
    many = replace(moves, rules=replace(moves.rules, max_files=100_000))
    assert len(job_of(many, ([f"{URL}{n}" for n in range(1000)], "scp://visualiser/data/")).files) == 1000
    for sources in (["no URL"] * 1001, {"type": "mixed", "sources": [{}] * 1001}):
        with pytest.raises(RequestTooLarge, match="1001 sources: expected at most 1000; move the rest with further"):
            job_of(many, (sources, SCP if isinstance(sources, list) else TO))
