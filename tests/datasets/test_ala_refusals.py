"""What the Atlas refuses, breaks or never heard of: each a named error in its words, and nothing made."""

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from datamover.datasets.ala.lsid import check_lsid
from datamover.errors import InvalidRequest
from tests.datasets.atlas import TARGETS, atlas, names_in, refused, subject
from tests.datasets.bench import TestBench
from tests.servers.ala import DWC, GOOD_ROWS, LSID, records_csv, records_zip
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


def bad_zip(change: int) -> bytes:
    """Return a zip with one byte of its data changed."""
    content = bytearray(records_zip(records_csv(GOOD_ROWS * 200), extras=False))
    content[len("data.csv") + 40 + change] ^= 0xFF
    return bytes(content)


def encrypted() -> bytes:
    content = bytearray(records_zip(records_csv(), extras=False))
    content[6] |= 1
    central = content.index(b"PK\x01\x02")
    content[central + 8] |= 1
    return bytes(content)


def lzma_zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("data.csv", records_csv())
    return packed.getvalue()


NO_LONGITUDE = [name for name in DWC if name != "decimalLongitude"]
DOWNLOADS: list[tuple[str, bytes, Said]] = [
    ("zero bytes", b"", ("DATASET_INVALID", False, "ALA sent zero bytes")),
    ("a page", b"<html>Sorry, <b>down</b></html>", ("DATASET_INVALID", False, 'zip file; it begins "Sorry, down"')),
    ("cut", records_zip(records_csv(GOOD_ROWS * 500))[:-200], ("DATASET_INVALID", False, "ALA sent a bad zip")),
    ("changed", bad_zip(60), ("DATASET_INVALID", False, "ALA sent a bad zip")),
    ("no data", records_zip(None), ("DATASET_INVALID", False, "ALA sent a zip without data.csv")),
    ("empty zip", records_zip(None, extras=False), ("DATASET_INVALID", False, "without data.csv")),
    ("empty data", records_zip(b""), ("DATASET_INVALID", False, "zero bytes, without even a header")),
    ("blank", records_zip(b"\n\n"), ("DATASET_INVALID", False, "without even a header")),
    (
        "evil",
        records_zip(records_csv(), members={"../evil": b"x"}),
        ("DATASET_INVALID", False, "'../evil', a name that leads out of it"),
    ),
    ("root", records_zip(records_csv(), members={"/etc/passwd": b"x"}), ("DATASET_INVALID", False, "leads out of it")),
    ("dos", records_zip(records_csv(), members={"..\\evil": b"x"}), ("DATASET_INVALID", False, "leads out of it")),
    ("elsewhere", records_zip(None, members={"x/data.csv": b"x"}), ("DATASET_INVALID", False, "without data.csv")),
    ("encrypted", encrypted(), ("DATASET_INVALID", False, "data.csv is encrypted")),
    ("lzma", lzma_zip(), ("DATASET_INVALID", False, "compressed in a way that is not known here")),
    ("bomb", records_zip(b"a," * 2**20), ("DATASET_INVALID", False, "unpacks to more than 1000000 bytes")),
    ("latin", records_zip("é,è\n".encode("latin-1")), ("DATASET_INVALID", False, "not UTF-8 text")),
    (
        "no longitude",
        records_zip(records_csv([row[1:] for row in GOOD_ROWS], header=NO_LONGITUDE)),
        ("DATASET_INVALID", False, "no column for lon (such as 'decimalLongitude')"),
    ),
    (
        "a short row",
        records_zip(records_csv([*GOOD_ROWS, GOOD_ROWS[0][:5]])),
        ("DATASET_INVALID", False, "the row that ends at line 4 has 5 fields and the header 8: it is too short"),
    ),
    (
        "a long row",
        records_zip(records_csv([(*GOOD_ROWS[0], "x")])),
        ("DATASET_INVALID", False, "has 9 fields and the header 8: it is too long"),
    ),
    (
        "an open quote",
        records_zip(records_csv() + b'"' + b"x,\n" * 200_000),
        ("DATASET_INVALID", False, "not CSV, at line"),
    ),
    ("no records", records_zip(records_csv([])), ("DATASET_EMPTY", False, "ALA has no occurrence records of it")),
    (
        "none left",
        records_zip(records_csv([("", *GOOD_ROWS[0][1:]), ("x", *GOOD_ROWS[0][1:]), ("181", *GOOD_ROWS[0][1:])])),
        (
            "DATASET_EMPTY",
            False,
            "No valid occurrences left. Of 3 rows were dropped: 1 placeless, 1 not a number, 1 out of range",
        ),
    ),
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("mode", ["offline", "direct"])
@pytest.mark.parametrize(("archive", "said"), [row[1:] for row in DOWNLOADS], ids=[row[0] for row in DOWNLOADS])
async def test_downloads_of_no_use(tmp_path: Path, mode: str, archive: bytes, said: Said) -> None:
    """A download that holds no records is refused with what is wrong with it, and is asked for anew next time."""
    async with atlas(mode=mode, max_unpacked=10**6) as (server, ala):
        server.archive = archive
        directory = tmp_path / "bench"
        directory.mkdir()
        bench = TestBench(directory, TARGETS)
        error = await refused(ala, bench)
    assert (error.code, error.retryable) == said[:2]
    assert said[2] in error.message
    assert bench.memory == {}
    assert not any(name.endswith(".json") for name in names_in(directory))
    assert names_in(tmp_path) == ["bench"]


@pytest_twisted.ensureDeferred
async def test_a_bomb_of_rows(tmp_path: Path) -> None:
    """A small zip of very many rows is stopped by its ratio, long before it is unpacked."""
    row = (",".join(GOOD_ROWS[0]) + "\n").encode("utf-8")
    async with atlas(max_ratio=50) as (server, ala):
        server.archive = records_zip(records_csv() + row * (110 * 10**6 // len(row)))
        error = await refused(ala, TestBench(tmp_path, TARGETS))
    assert error.code == "DATASET_INVALID"
    assert "unpacks to more than 50 times the size of the zip" in error.message


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
