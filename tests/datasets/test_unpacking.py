"""Zips that lie about what is in them, and what came of cleaning them."""

import re
import struct
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datamover.datasets.ala.clean import ZipRequest, work
from datamover.datasets.ala.section import COLUMNS as HEADERS
from datamover.errors import DatasetEmpty, DatasetInvalid
from tests.servers.ala import GOOD_ROWS, records_csv, records_zip


def check_any_zip(directory: Path, content: bytes) -> bool:
    """Clean a zip and return True, or return False where it is refused with a reason."""
    (directory / "changed.zip").write_bytes(content)
    request = ZipRequest(
        archive=str(directory / "changed.zip"),
        output=str(directory / "changed.csv"),
        headers=dict(HEADERS),
        good_flags=[],
        max_unpacked=10**6,
        max_ratio=200,
    )
    try:
        told = work(asdict(request), lambda _: None)
    except (DatasetInvalid, DatasetEmpty):
        return False
    assert told["kept"] + sum(told["dropped"].values()) == told["read"]
    return True


@settings(max_examples=300, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=5))
def test_whatever_the_zip(tmp_path_factory: pytest.TempPathFactory, changes: Sequence[tuple[int, int]]) -> None:
    """A zip that was changed anywhere is cleaned or refused with a reason, and never anything else."""
    content = bytearray(records_zip(records_csv(GOOD_ROWS * 5), doi="10.1/x"))
    for place, value in changes:
        # From the end on: there is what a zip says of itself.
        content[-1 - place % len(content)] = value
    check_any_zip(tmp_path_factory.getbasetemp(), bytes(content))


FIELDS = {
    b"PK\1\2": "4H 6H 8H 10H 16L 20L 24L 28H 30H 32H 34H 42L",
    b"PK\3\4": "4H 6H 8H 14L 18L 22L 26H 28H",
    b"PK\5\6": "4H 6H 8H 10H 12L 16L 20H",
    b"PK\6\6": "4Q 12H 14H 16L 20L 24Q 32Q 40Q 48Q",
    b"PK\6\7": "4L 8Q 16L",
}
"""What a zip says of itself and of its members (APPNOTE 4.3): the offset and the size of each field."""
LIES = (0, 1, 2, 8, 9, 20, 46, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


def zip64() -> bytearray:
    """Return a zip whose members and whose end tell sizes and offsets in 64 bits alone."""
    plain = bytearray(records_zip(records_csv(GOOD_ROWS * 5), extras=False))
    central, end = plain.index(b"PK\1\2"), plain.index(b"PK\5\6")
    sizes = struct.unpack_from("<LL", plain, central + 20)
    extra = struct.pack("<HHQQQ", 1, 24, sizes[1], sizes[0], 0)
    struct.pack_into("<LL", plain, central + 20, 2**32 - 1, 2**32 - 1)
    struct.pack_into("<H", plain, central + 30, len(extra))
    struct.pack_into("<L", plain, central + 42, 2**32 - 1)
    directory = plain[central:end] + extra
    last = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(directory), central)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, central + len(directory), 1)
    struct.pack_into("<HHLL", plain, end + 8, 2**16 - 1, 2**16 - 1, 2**32 - 1, 2**32 - 1)
    return plain[:central] + directory + last + locator + plain[end:]


PLACES = [
    (place.start() + int(field[:-1]), f"<{field[-1]}")
    for signature, fields in FIELDS.items()
    for place in re.finditer(re.escape(signature), zip64())
    for field in fields.split()
]
# The 64-bit sizes and the offset of the member.
PLACES += [(zip64().index(b"PK\6\6") - 8 * number, "<Q") for number in (1, 2, 3)]


@settings(max_examples=1000, deadline=None)
@given(lies=st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(LIES)), max_size=4), cut=st.integers(0, 20))
@example(lies=[], cut=0)
@example(lies=[(PLACES[-3], 2**63)], cut=0)
@example(lies=[(PLACES[-3], 2**62)], cut=0)
def test_whatever_a_zip_says_of_itself(
    tmp_path_factory: pytest.TempPathFactory, lies: Sequence[tuple[tuple[int, str], int]], cut: int
) -> None:
    """A zip that lies about sizes, offsets and numbers, of 64 bits as well, is cleaned or refused with a reason."""
    content = zip64()
    for (place, kind), value in lies:
        struct.pack_into(kind, content, place, value % 2 ** (8 * struct.calcsize(kind)))
    kept = check_any_zip(tmp_path_factory.getbasetemp(), bytes(content[: len(content) - cut]))
    assert kept or lies or cut
