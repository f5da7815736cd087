"""Downloads that hold no records, or too much: each a named error that says what is wrong, and nothing made."""

import io
import zipfile
from pathlib import Path

import pytest
import pytest_twisted

from tests.datasets.atlas import TARGETS, atlas, names_in, refused
from tests.datasets.bench import TestBench
from tests.servers.ala import DWC, GOOD_ROWS, records_csv, records_zip

Said = tuple[str, bool, str]
"""Code, retryable, and what the message holds."""


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
