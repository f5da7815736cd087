"""Long documents are read in slices, of which the reactor does one in each of its turns."""

import json
from collections.abc import Callable, Generator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from datamover.bounds import servers
from datamover.errors import ServerError
from datamover.protocols.dav.documents import failure_in
from datamover.protocols.ftp.client.listing import FtpEntry, Lines, fact_entry
from datamover.protocols.http_place.json_documents import entries_in, short_json
from datamover.protocols.http_place.refused import Unreadable
from datamover.protocols.s3.documents import listing_of, parts_of, upload_of, uploads_of
from datamover.protocols.slices import SlicedWork, converted, in_order, in_slices, result
from datamover.protocols.swift.segments import upload_in
from tests.waiting import TurnCounter

Steps = Generator[None, None, Any]

MANY = 4000
SLICE = servers.DOCUMENT_PIECE * servers.STEPS_IN_SLICE
KEY = "<Contents><Key>a/{0:06d}</Key><ETag>&quot;0123456789abcdef&quot;</ETag><Size>5</Size></Contents>"
PART = "<Part><PartNumber>{0}</PartNumber><Size>5</Size><ETag>&quot;0123456789abcdef0123456789&quot;</ETag></Part>"
UPLOAD = "<Upload><Key>a/{0:06d}</Key><UploadId>u{0}</UploadId><Initiator><ID>i</ID></Initiator></Upload>"
RESPONSE = "<response><href>/d/{0:06d}</href><propstat><status>HTTP/1.1 200 OK</status></propstat></response>"
LINE = "type=file;size=5;modify=20260101000000; {0:06d}\r\n"


def listed(root: str, item: str, attributes: str = "") -> bytes:
    return f"<{root}{attributes}>{''.join(map(item.format, range(MANY)))}</{root}>".encode()


def objects(many: int = MANY, **more: object) -> bytes:
    entries = [{"name": f"a/{number:06d}", "bytes": 5, "hash": "0123456789abcdef", **more} for number in range(many)]
    return json.dumps(entries).encode()


def lines_in(body: bytes) -> Generator[None, None, list[FtpEntry | None]]:
    lines = Lines(fact_entry)
    for start in range(0, len(body), 10_007):
        yield from lines.feed(body[start : start + 10_007])
    return lines.finish()


@pytest.mark.parametrize(
    ("parse", "body", "count"),
    [
        (listing_of, listed("ListBucketResult", KEY), lambda found: len(found.keys)),
        (parts_of, listed("ListPartsResult", PART), lambda found: len(found[0])),
        (uploads_of, listed("ListMultipartUploadsResult", UPLOAD), lambda found: len(found[0])),
        (upload_of, listed("R", "<a>{0}</a>" * 5 + "<UploadId>u</UploadId>"), lambda found: MANY * (found == "u")),
        (failure_in, listed("multistatus", RESPONSE, ' xmlns="DAV:"'), lambda found: MANY * (found is None)),
        (entries_in, objects(), len),
        (lambda body: upload_in("c", body), objects(), lambda found: MANY * (found is None)),
        (lines_in, "".join(map(LINE.format, range(MANY))).encode(), len),
        (lambda _: in_order(map(str, range(20 * MANY))), bytes(4 * SLICE), lambda found: len(found) // 20),
    ],
    ids=["keys", "parts", "uploads", "upload", "multistatus", "objects", "manifest", "lines", "names"],
)
@pytest_twisted.ensureDeferred
async def test_the_reactor_turns_meanwhile(
    parse: Callable[[bytes], Steps], body: bytes, count: Callable[[Any], int]
) -> None:
    """A long document is read whole, in as many turns as it has slices, however quick the machine is."""
    with TurnCounter() as turns:
        found = await in_slices(reactor, parse(body))
    assert count(found) == MANY
    assert turns.count >= len(body) // (2 * SLICE) >= 1


@pytest_twisted.ensureDeferred
async def test_one_slice_in_a_turn() -> None:
    """Where several documents are read, each turn does the slice of one of them, in order."""
    done: list[tuple[int, int]] = []

    def steps(which: int) -> Steps:
        for _ in range(5 * servers.STEPS_IN_SLICE):
            done.append((turns.count, which))
            yield

    with TurnCounter() as turns:
        works = [Deferred.fromCoroutine(in_slices(reactor, steps(which))) for which in range(3)]
        began = len(done)
        for work in works:
            await work
    assert began <= 3 * servers.STEPS_IN_SLICE  # Each begins at once.
    later = done[began:]
    for turn in {turn for turn, _ in later}:
        of_turn = [which for each, which in later if each == turn]
        assert len(of_turn) <= servers.STEPS_IN_SLICE
        assert len(set(of_turn)) == 1
    order = list(dict.fromkeys((turn, which) for turn, which in later))
    assert [which for _, which in order[:3]] == [0, 1, 2]


def test_a_slow_step_ends_the_slice() -> None:
    """A slice ends with the step in which its time is up."""
    clock, done = Clock(), list[float]()

    def steps() -> Steps:
        for _ in range(3):
            done.append(clock.seconds())
            clock.advance(servers.DOCUMENT_SLICE_SECONDS)
            yield

    work = Deferred.fromCoroutine(in_slices(clock, steps()))
    assert len(done) == 1
    clock.pump([0, 0, 0])
    assert (len(done), work.called) == (3, True)


def test_pieces_share_a_slice() -> None:
    """What arrives in small pieces gets no longer turns for that."""
    clock, done = Clock(), list[int]()

    async def read() -> None:
        slices = SlicedWork(clock)
        for _ in range(3 * servers.STEPS_IN_SLICE):
            await slices.run(converted(range(64), done.append))

    work = Deferred.fromCoroutine(read())
    assert len(done) == 64 * servers.STEPS_IN_SLICE
    clock.pump([0, 0, 0])
    assert (len(done), work.called) == (3 * 64 * servers.STEPS_IN_SLICE, True)


def test_cancelled() -> None:
    """Work that is cancelled ends at its pause, and holds nobody up."""
    clock = Clock()
    first, second = (Deferred.fromCoroutine(in_slices(clock, converted(range(5000), str))) for _ in range(2))
    ended: list[Failure] = []
    first.addErrback(ended.append)
    first.cancel()
    assert [failure.type for failure in ended] == [CancelledError]
    clock.pump([0] * 10)
    assert second.called
    third = Deferred.fromCoroutine(in_slices(clock, converted(range(5000), str)))
    third.cancel()
    third.addErrback(ended.append)
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<a>" * (servers.DEEPEST_DOCUMENT + 1), id="deep"),
        pytest.param(b"<a>" + b"<b/>" * servers.MOST_NODES, id="many"),
        pytest.param(b"<a>" + b"<Part/>" * (servers.MOST_ENTRIES + 1), id="many rows"),
        pytest.param(b"<a>" + b"x" * (servers.LONGEST_DOCUMENT_TEXT + 1), id="long text"),
        pytest.param(b"<a " + b"b='' " * servers.LONGEST_MARKUP, id="long tag"),
        pytest.param(b"<!--" + b"x" * 2 * servers.LONGEST_MARKUP, id="long comment"),
        pytest.param(b"<!DOCTYPE a [<!ENTITY b 'c'>]><a/>", id="a DTD"),
        pytest.param(b'<?xml version="1.0" encoding="no-such"?><a/>', id="unknown encoding"),
        pytest.param(b"<x:a/>", id="unknown prefix"),
        pytest.param(b"<a></b>", id="not well-formed"),
        pytest.param(b"<a>", id="cut off"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_documents_that_are_refused(body: bytes) -> None:
    """What no server sends is refused before it costs much."""
    with pytest.raises(Unreadable):
        result(parts_of(body))


def test_characters_that_xml_has_not() -> None:
    """Keys with characters that XML 1.0 has not are listed, wherever the pieces of the document begin."""
    keys = [f"a\x01&#x1;{number}" for number in range(2000)]
    body = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in keys)
    found = result(listing_of(f"<ListBucketResult>{body}</ListBucketResult>".encode()))
    assert found.keys == tuple(f"a??{number}" for number in range(2000))


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"\xef\xbb\xbf [ ] ",
        b' [\n{"a": "]}\\"\xc3\xa4"} ,\t{}, {"b": [{"c": 1.5e3}, null]}\n] ',
        objects(200, more="x" * (servers.LONGEST_ENTRY // 100)),
    ],
)
def test_lists_in_json(body: bytes) -> None:
    """A list is read as all of it would be."""
    assert result(entries_in(body)) == json.loads(body.decode("utf-8-sig"))


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b" ",
            b"[",
            b"{}",
            b"[{}",
            b"[{},",
            b"[{},]",
            b"[{}{}]",
            b"[{}]]",
            b"[1]",
            b'[{"a"]',
            b"null",
            b"[\xff]",
        ),
        b"<html>",
        b"[" * 100_000,
        b'[{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}]",
        b'[{"a": "' + b"x" * servers.LONGEST_ENTRY + b'"}]',
        b"[{}" + b",{}" * servers.MOST_ENTRIES + b"]",
    ],
)
def test_no_lists_in_json(body: bytes) -> None:
    """What is no list of objects, is cut off, or is more than any server sends is told as unreadable."""
    with pytest.raises(Unreadable):
        result(entries_in(body))


@pytest.mark.parametrize(
    "body", [b"{", b"[" * 15_000, b"[" + b"[]," * 30_000 + b"0]", b" " * (servers.LARGEST_JSON_AT_ONCE + 1) + b"{}"]
)
def test_no_short_json(body: bytes) -> None:
    """JSON that is parsed at once is short."""
    with pytest.raises(ValueError, match=r"\w"):
        short_json(body)
    assert short_json(b' {"a": [1]} ') == {"a": [1]}


@pytest.mark.parametrize("body", [b"x" * (2 * servers.LONGEST_DOCUMENT_TEXT), b"\n" * (servers.MOST_LISTING_LINES + 1)])
def test_listings_without_an_end(body: bytes) -> None:
    """A line without an end, and more lines than a directory has, end a listing."""
    with pytest.raises(ServerError):
        result(lines_in(body))


def test_lines() -> None:
    """Lines are the same wherever the pieces end; the last one needs no end."""
    lines = Lines(str)
    for piece in (b"a\r", b"\nb\n", b"\r\n \n", b"c\xff", b"d"):
        result(lines.feed(piece))
    assert lines.finish() == ["a", "b", "c\udcffd"]
