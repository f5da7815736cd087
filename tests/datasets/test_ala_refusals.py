"""What the Atlas refuses, breaks or never heard of: each a named error in its words, and nothing made."""

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from datamover.datasets.ala.lsid import check_lsid
from datamover.errors import InvalidRequest
from tests.datasets.atlas import TARGETS, atlas, names_in, refused, subject
from tests.datasets.bench import TestBench
from tests.servers.ala import LSID
from tests.servers.web import Exchange

Said = tuple[str, bool, str]
"""Code, retryable, and what the message holds."""


@pytest.mark.parametrize(
    "text",
    [
        LSID,
        "urn:lsid:indexfungorum.org:names:12345",
        "URN:LSID:catalogueoflife.org:taxon:d79c11aa-29c1-102b-9a4a-00304854f820:col20120124",
        "urn:lsid:example.org:a_b:c%20d",
    ],
)
def test_lsids(text: str) -> None:
    """Authority, namespace, object and perhaps a revision make an LSID."""
    assert check_lsid(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kangaroo",
        "urn:lsid:example.org:taxon",
        "urn:lsid:example.org:taxon:",
        "urn:lsid::taxon:1",
        "urn:lsid:example.org:taxon:1:2:3",
        "urn:uuid:example.org:taxon:1",
        f" {LSID}",
        f"{LSID}\n",
        "urn:lsid:example.org:taxon:../../etc/passwd",
        "urn:lsid:example.org:taxon:a/b",
        'urn:lsid:example.org:taxon:1" OR *:*',
        "urn:lsid:example.org:taxon:é",
        "urn:lsid:example.org:taxon:%zz",
        "urn:lsid:example.org:taxon:" + "1" * 300,
    ],
)
def test_no_lsids(text: str) -> None:
    """Nothing else is one, and the refusal says what is expected."""
    with pytest.raises(InvalidRequest, match="expected urn:lsid:<authority>:<namespace>:<object>"):
        check_lsid(text)


@pytest_twisted.ensureDeferred
async def test_urls() -> None:
    """A dataset's URL holds one LSID, encoded or not, and nothing else."""
    async with atlas() as (_, ala):
        for url in (f"ala://ala?lsid={LSID}", f"ALA://ala/?lsid={LSID.replace(':', '%3A')}"):
            assert ala.subject(url).key == LSID
        for url in (
            "ala://ala",
            "ala://ala?lsid=",
            "ala://ala?taxon=1",
            f"ala://other?lsid={LSID}",
            f"ala://ala/x?lsid={LSID}",
            f"ala://ala?lsid={LSID}&lsid={LSID}",
            f"ala://ala?lsid={LSID}#x",
            f"http://ala?lsid={LSID}",
            "ala://[",
        ):
            with pytest.raises(InvalidRequest):
                ala.subject(url)


REFUSALS: list[tuple[int, str | bytes, dict[str, str], Said]] = [
    (400, "no valid email", {}, ("SOURCE_FORBIDDEN", False, '400 Bad Request: "no valid email"')),
    (403, "not registered", {}, ("SOURCE_FORBIDDEN", False, '403 Forbidden: "not registered"')),
    (403, "Too many requests", {}, ("RATE_LIMITED", True, "Too many requests")),
    (403, "later", {"Retry-After": "9"}, ("RATE_LIMITED", True, "later")),
    (404, "no such thing", {}, ("DATASET_NOT_FOUND", False, f'ALA does not know {LSID}: 404 Not Found: "no such')),
    (412, "not allowed", {}, ("SOURCE_FORBIDDEN", False, '412 Precondition Failed: "not allowed"')),
    (429, "slow down", {"Retry-After": "9"}, ("RATE_LIMITED", True, '429 Too Many Requests: "slow down"')),
    (500, "broken", {}, ("SERVER_ERROR", True, '500 Internal Server Error: "broken"')),
    (502, b"<html><head><title>x</title></head><h1>Bad\n Gateway</h1>", {}, ("SERVER_ERROR", True, ': "Bad Gateway"')),
    (503, "down", {"Retry-After": "9"}, ("RATE_LIMITED", True, "down")),
    (503, b"\x00\xff\x1b[31m", {}, ("SERVER_ERROR", True, "503 Service Unavailable")),
    (204, b"", {}, ("SERVER_ERROR", True, "204 No Content")),
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("step", ["species", "bulk", "ask", "direct", "download"])
@pytest.mark.parametrize(("status", "body", "headers", "said"), REFUSALS)
async def test_refusals(
    tmp_path: Path, step: str, status: int, body: str | bytes, headers: dict[str, str], said: Said
) -> None:
    """Whatever step is refused, the error says how in the Atlas's words, and whether to try again and when."""
    mode = "direct" if step == "direct" else "offline"
    async with atlas(mode=mode, species_lookup="bulk" if step == "bulk" else "single") as (server, ala):
        server.fail(step, status, body, headers=list(headers.items()))
        error = await refused(ala, TestBench(tmp_path, TARGETS))
    expected = said[2] if step not in ("bulk", "download") else said[2].partition(": ")[2] or said[2]
    assert (error.code, error.retryable) == said[:2]
    assert expected in error.message
    assert error.retry_after == (9.0 if headers else 300.0 if "Too many" in error.message and status == 403 else None)
    assert names_in(tmp_path) in ([], ["records.zip"])


@pytest_twisted.ensureDeferred
async def test_an_unknown_taxon(tmp_path: Path) -> None:
    """A taxon that the Atlas does not know is not asked for records."""
    async with atlas() as (server, ala):
        unknown = "urn:lsid:example.org:taxon:none"
        error = await refused(ala, TestBench(tmp_path, TARGETS), unknown)
        assert server.count("ask") == 0
    assert error.code == "DATASET_NOT_FOUND"
    assert error.message == f'ALA does not know {unknown}: 404 Not Found: "{unknown} not found"'


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"null", "DATASET_INVALID"),
        (b"[]", "DATASET_INVALID"),
        (b"{}", "DATASET_NOT_FOUND"),
        (b'{"taxonConcept": null}', "DATASET_NOT_FOUND"),
        (b'{"taxonConcept": {"nameString": " "}}', "DATASET_NOT_FOUND"),
        (b"<html>down</html>", "DATASET_INVALID"),
        (b"", "DATASET_INVALID"),
    ],
)
async def test_answers_that_name_no_taxon(tmp_path: Path, content: bytes, code: str) -> None:
    """A taxon's answer without a name in it is told from a good one."""
    async with atlas() as (server, ala):
        server.handle("species", lambda exchange: exchange.answer(200, [], content))
        assert (await refused(ala, TestBench(tmp_path, TARGETS))).code == code


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("names", [None, [], [None], [{"nameString": None}], "x"])
async def test_a_taxon_without_a_common_name(tmp_path: Path, names: Any) -> None:
    """No, null and nonsensical common names leave the scientific one."""
    async with atlas() as (server, ala):
        server.know(names=names)
        taxon = await ala._species.look_up(LSID)
    assert (taxon.common_name, taxon.shown) == (None, "Macropus rufus")


STATUSES: list[tuple[dict[str, Any], Said]] = [
    ({"status": "tooLarge", "message": "over 5 million"}, ("DATASET_INVALID", False, "'tooLarge': \"over 5 million\"")),
    ({"status": "cancelled"}, ("DATASET_INVALID", False, "status 'cancelled'")),
    ({"status": "skipped", "error": "no"}, ("DATASET_INVALID", False, "status 'skipped': \"no\"")),
    ({"status": "marsupial", "message": None}, ("DATASET_INVALID", False, "status 'marsupial'")),
    ({"status": None, "error": "boom"}, ("DATASET_INVALID", False, 'ALA did not take the request: "boom"')),
    ({"status": "finished"}, ("DATASET_INVALID", False, "without saying where the download is")),
    ({"status": "finished", "totalRecords": 0}, ("DATASET_EMPTY", False, "ALA has no occurrence records")),
    (
        {"status": "finished", "downloadUrl": "ftp://example.org/x.zip"},
        ("DATASET_INVALID", False, "ALA's downloadUrl cannot be followed"),
    ),
    (
        {"status": "finished", "downloadUrl": "http://169.254.169.254/latest"},
        ("SOURCE_NOT_ALLOWED", False, "169.254.169.254"),
    ),
    ({"status": "running", "statusUrl": "http://10.0.0.1/status"}, ("SOURCE_NOT_ALLOWED", False, "10.0.0.1")),
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("answer", "said"), STATUSES)
async def test_ends_without_a_download(tmp_path: Path, first: bool, answer: dict[str, Any], said: Said) -> None:
    """A request that ends otherwise fails with the Atlas's own word, whether at once or later."""
    async with atlas() as (server, ala):
        if first:
            server.first_answer = {"statusUrl": f"{server.url}/ws/occurrences/offline/status/1", **answer}
        server.script = [answer]
        bench = TestBench(tmp_path, TARGETS)
        error = await refused(ala, bench)
    assert (error.code, error.retryable) == said[:2]
    assert said[2] in error.message
    if not said[0].startswith("SOURCE") and "cannot be followed" not in said[2]:
        assert bench.memory == {}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("answer", [{}, {"status": "inQueue"}, {"statusUrl": None}, {"statusUrl": 5, "status": 5}])
async def test_an_acceptance_without_a_way_on(tmp_path: Path, answer: dict[str, Any]) -> None:
    """An answer that names neither status nor download cannot be gone on with."""
    async with atlas() as (server, ala):
        server.first_answer = answer
        error = await refused(ala, TestBench(tmp_path, TARGETS))
    assert error.code == "DATASET_INVALID"
    assert "without saying where to look for it" in error.message


@pytest_twisted.ensureDeferred
async def test_answers_with_little_in_them(tmp_path: Path) -> None:
    """Nulls, missing keys, numbers as strings and odd types are lived with as long as a download comes of it."""
    async with atlas() as (server, ala):
        download = f"{server.url}/downloads/1/data.zip"
        server.script = [
            {},
            {"status": None, "records": None},
            {"status": "RUNNING", "records": "5", "totalRecords": "10", "statusUrl": None},
            {"status": "in_queue", "queueSize": "two"},
            {"status": " Finished ", "downloadUrl": download, "totalRecords": []},
        ]
        bench = TestBench(tmp_path, TARGETS)
        await ala.make(subject(), bench)
    told = [stage for stage in bench.stages if stage.startswith("ALA: ")]
    assert "ALA: running, 5 of 10 records" in told
    assert "ALA: queued" in told


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("step", ["species", "ask", "status", "download"])
async def test_connections_that_break(tmp_path: Path, step: str) -> None:
    """A connection that breaks without an answer is a connection error; between looks it is tolerated for a while."""
    async with atlas() as (server, ala):
        server.handle(step, Exchange.reset)
        error = await refused(ala, TestBench(tmp_path, TARGETS))
        assert (error.code, error.retryable) == ("CONNECTION_LOST", True)
        # One more than are tolerated; and what goes out on a kept connection that breaks is sent again.
        assert server.count("status") in {"species": (0,), "ask": (0,), "status": (7, 8), "download": (2,)}[step]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("status", "body"), [(503, "down"), (429, "slow"), (200, b"<html>sorry</html>"), (500, b"")])
async def test_looks_that_fail_now_and_then(tmp_path: Path, status: int, body: str | bytes) -> None:
    """A look that fails is repeated, and the request goes on; one that always fails ends the attempt, remembered."""
    async with atlas() as (server, ala):
        server.fail("status", status, body, times=3)
        bench = TestBench(tmp_path, TARGETS)
        await ala.make(subject(), bench)
        assert server.count("ask") == 1
        server.heal()
        server.fail("status", status, body)
        error = await refused(ala, bench := TestBench(tmp_path, TARGETS))
        assert error.retryable
        assert bench.memory["status_url"].endswith("/2")


@pytest_twisted.ensureDeferred
async def test_too_many_requests(tmp_path: Path) -> None:
    """The 403 of an address that asked too often is told from that of an unregistered one."""
    async with atlas() as (server, ala):
        server.most_asked = 0
        error = await refused(ala, TestBench(tmp_path, TARGETS))
        assert (error.code, error.retry_after) == ("RATE_LIMITED", 300.0)
        server.registered = set()
        error = await refused(ala, TestBench(tmp_path, TARGETS))
        assert error.code == "SOURCE_FORBIDDEN"
        assert "is not registered" in error.message
