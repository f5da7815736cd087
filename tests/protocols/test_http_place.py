"""Files that are read in ranges, from a service that answers as it is told."""

from collections.abc import Callable

import pytest
import pytest_twisted

from datamover import errors
from tests.protocols.conformance import MIB, content, read
from tests.protocols.object_store import small_ranges
from tests.protocols.test_s3_service import Rehearsal, bucket
from tests.servers.web import Exchange

__all__ = ["bucket"]

DATA = content(3 * MIB + 7)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_ranges(monkeypatch)


class Served:
    """A file that changes after ``changes`` ranges.

    Ranges are given in whole blocks of ``block`` bytes, of which there are at most ``cap``; ``up``: they begin with the
    block behind what is asked for.
    """

    def __init__(
        self,
        *,
        tag: str | None = '"1"',
        ranges: bool = True,
        total: bool = True,
        changes: int = 100,
        block: int = 1,
        cap: int = len(DATA),
        up: bool = False,
    ) -> None:
        self._tag = tag
        self._ranges = ranges
        self._total = total
        self._changes = changes
        self._block = block
        self._cap = cap
        self._up = up

    def __call__(self, exchange: Exchange) -> None:
        headers = [("Last-Modified", "Sat, 28 Nov 2026 10:00:00 GMT")]
        if self._tag is not None:
            headers.append(("ETag", self._tag))
        wanted = exchange.request.headers.get("range")
        if wanted is None or not self._ranges:
            exchange.answer(200, headers, DATA)
            return
        self._changes -= 1
        if self._changes < 0 and exchange.request.headers.get("if-match") is not None:
            exchange.answer(412, [], b"")
            return
        begin, _, last = wanted.removeprefix("bytes=").partition("-")
        first = (int(begin) + (self._block - 1) * self._up) // self._block * self._block
        end = -(-(int(last or len(DATA) - 1) + 1) // self._block) * self._block
        if first >= len(DATA):
            exchange.answer(416, [("Content-Range", f"bytes */{len(DATA)}")])
            return
        part = DATA[first : min(end, first + self._cap * self._block)]
        total = len(DATA) if self._total else "*"
        headers.append(("Content-Range", f"bytes {first}-{first + len(part) - 1}/{total}"))
        exchange.answer(206, headers, part)


def asked(bucket: Rehearsal) -> list[tuple[str | None, str | None]]:
    """Return the Range and If-Match of each request."""
    return [(each.headers.get("range"), each.headers.get("if-match")) for each in bucket.asked()]


@pytest_twisted.ensureDeferred
async def test_ranges_of_one_file(bucket: Rehearsal) -> None:
    """The first answer has the size and the ETag; every further range is requested with that ETag."""
    bucket.answer("f", Served())
    assert await read(bucket.reading.origin("f")) == (0, DATA)
    first, *others = asked(bucket)
    assert first == (f"bytes=0-{MIB - 1}", None)
    assert sorted(others) == [
        (f"bytes={start}-{min(start + MIB, len(DATA)) - 1}", '"1"') for start in range(MIB, len(DATA), MIB)
    ]


@pytest.mark.parametrize(
    ("served", "requests"),
    [(Served(ranges=False), 1), (Served(tag=None), 2), (Served(total=False), 2)],
    ids=["no ranges", "no tag", "no total"],
)
@pytest_twisted.ensureDeferred
async def test_whole_where_ranges_will_not_do(
    served: Callable[[Exchange], None], requests: int, bucket: Rehearsal
) -> None:
    """If the service serves no ranges, or ranges without an ETag or a total, the file is read by one request."""
    bucket.answer("f", served)
    assert await read(bucket.reading.origin("f")) == (0, DATA)
    assert len(bucket.asked()) == requests


@pytest.mark.parametrize("told", [f"bytes 0-{MIB - 1}/*", f"bytes 0-{MIB - 1}/{len(DATA)}", "", "bytes x"])
@pytest_twisted.ensureDeferred
async def test_a_part_that_nobody_asked_for(told: str, bucket: Rehearsal) -> None:
    """An answer with a part of the file to a request for all of it is not taken for the file."""
    headers = [("Last-Modified", "Sat, 28 Nov 2026 10:00:00 GMT")]
    headers += [("Content-Range", told)] * bool(told)
    bucket.answer("f", lambda exchange: exchange.answer(206, headers, DATA[:MIB]))
    with pytest.raises(errors.ServerError, match="answers with a part of it although all of it was asked for"):
        await read(bucket.reading.origin("f"))


async def read_and_resumed(bucket: Rehearsal) -> None:
    """Assert that a file is read whole, and from an offset on."""
    assert await read(bucket.reading.origin("f")) == (0, DATA)
    identity = (await bucket.reading.origin("f").open()).inspection.identity
    source = await bucket.reading.origin("f").open(MIB + 5, identity)
    assert source.offset == MIB + 5
    received = b""
    while data := await source.read():
        received += data
    await source.close()
    assert received == DATA[MIB + 5 :]


@pytest.mark.parametrize(("block", "cap"), [(1, 300_000), (70_000, 100), (70_000, 1)])
@pytest_twisted.ensureDeferred
async def test_other_ranges_than_were_asked_for(block: int, cap: int, bucket: Rehearsal) -> None:
    """A service that gives fewer bytes than requested, or whole blocks, is read to the end."""
    bucket.answer("f", Served(block=block, cap=cap, changes=10_000))
    await read_and_resumed(bucket)


@pytest.mark.parametrize("block", [1000, 70_000, 400_000])
@pytest_twisted.ensureDeferred
async def test_ranges_that_begin_behind(block: int, bucket: Rehearsal) -> None:
    """If a service rounds up to whole blocks, the range is requested again from further before, without a gap."""
    bucket.answer("f", Served(block=block, up=True, changes=10_000))
    await read_and_resumed(bucket)


@pytest_twisted.ensureDeferred
async def test_changed_between_ranges(bucket: Rehearsal) -> None:
    """A change between two ranges raises SourceChanged; the next attempt reads the file by one request."""
    bucket.answer("f", Served(changes=2))
    with pytest.raises(errors.SourceChanged):
        await read(bucket.reading.origin("f"))
    before = len(bucket.asked())
    assert await read(bucket.reading.origin("f")) == (0, DATA)
    assert asked(bucket)[before:] == [(None, None)]


@pytest.mark.parametrize(
    ("told", "requests"),
    [
        ({"Content-Range": "bytes */0", "ETag": '"1"', "x-amz-meta-mtime": "1.5"}, 1),
        ({"Content-Range": "bytes */0"}, 2),
        ({"Content-Range": "bytes */5", "ETag": '"1"'}, 2),
        ({}, 2),
    ],
)
@pytest_twisted.ensureDeferred
async def test_empty(bucket: Rehearsal, told: dict[str, str], requests: int) -> None:
    """No second request is sent if the refusal of the first range says that the file is empty, and identifies it."""

    def serve(exchange: Exchange) -> None:
        if "range" in exchange.request.headers:
            exchange.answer(416, list(told.items()), b"no such range")
        else:
            exchange.answer(200, [("ETag", '"1"'), ("x-amz-meta-mtime", "1.5")])

    bucket.answer("f", serve)
    source = await bucket.reading.origin("f").open()
    assert (source.inspection.size, source.inspection.modified, source.offset) == (0, 1.5, 0)
    assert await source.read() == b""
    await source.close()
    assert len(bucket.asked()) == requests
