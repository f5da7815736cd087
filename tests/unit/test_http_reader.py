"""How the bytes of an answer are read: as others read them, and the same wherever they are cut."""

import time
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamover.bounds.servers import LARGEST_HEAD, LONGEST_HEAD_FIELD, MOST_HEAD_LINES, MOST_INFORMATIONAL
from datamover.protocols.http.answers import Head, failure_of, inspection_of, ranges_given
from datamover.protocols.http.client.fields import Fields, MalformedHttp
from datamover.protocols.http.client.reader import AnswerReader, HeadTooLarge
from datamover.web.url import WebUrl

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ANSWERS = {
    "length": OK + b'Content-Length: 10\r\nETag: \t"1" \t\r\n\r\n0123456789',
    "empty": OK + b"Content-Length: 0\r\n\r\n",
    "chunks": CHUNKED + b"4;name=value\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"a\r\n0123456789\r\n0\r\nX-Digest: 3\r\nETag: late\r\n\r\n",
    "hints": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 7\r\n\r\n"
    + OK
    + b"Content-Length: 10\r\n\r\n0123456789",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 10\r\n\r\n0123456789",
    "reason with odd bytes": b"HTTP/1.1 200 \xe9\x01\r\nContent-Length: 10\r\n\r\n0123456789",
    "length with zeros": OK + b"Content-Length: 0000000000000000000000010\r\n\r\n0123456789",
    "upgradable": OK + b"Upgrade: h2,h2c\r\nConnection: Upgrade, Keep-Alive\r\nContent-Length: 10\r\n\r\n0123456789",
}


@dataclass(frozen=True, slots=True)
class Read:
    """All that was read of an answer."""

    status: int
    fields: Fields
    length: int | None
    body: bytes
    complete: bool
    reusable: bool


def read(*pieces: bytes, method: bytes = b"GET") -> Read:
    reader = AnswerReader(method)
    body = b"".join([reader.feed(piece) for piece in pieces])
    assert not reader.broken
    return Read(reader.status, reader.fields, reader.length, body, reader.complete, reader.reusable)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_cut_at_every_byte(name: str) -> None:
    """However an answer is cut into two pieces, or into single bytes, the same is read."""
    answer = ANSWERS[name]
    whole = read(answer)
    assert (whole.status, whole.complete, whole.reusable) == (200, True, True)
    assert whole.body == (b"" if name == "empty" else b"0123456789")
    for cut in range(len(answer)):
        assert read(answer[:cut], answer[cut:]) == whole
    assert read(*(answer[place : place + 1] for place in range(len(answer)))) == whole


@given(st.sampled_from(sorted(ANSWERS)), st.lists(st.integers(0, 200)))
def test_an_answer_cut_anywhere(name: str, cuts: list[int]) -> None:
    """Any number of cuts makes no difference."""
    answer = ANSWERS[name]
    places = [0, *sorted(cuts), len(answer)]
    assert read(*(answer[a:b] for a, b in pairwise(places))) == read(answer)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Whatever comes is read or refused in order."""
    for start in (b"", b"HTTP/1.1 ", OK, CHUNKED):
        reader = AnswerReader(b"GET")
        try:
            reader.feed(start + data)
        except (MalformedHttp, HeadTooLarge):
            assert not reader.answered


def test_a_body_is_handed_on_as_it_came() -> None:
    """The bytes of a body with a length are not copied."""
    reader = AnswerReader(b"GET")
    reader.feed(OK + b"Content-Length: 200000\r\n\r\n")
    piece = bytes(100000)
    assert reader.feed(piece) is piece
    assert reader.feed(piece) is piece
    assert reader.complete


UNITS = [b"a", b"0", b"-", b";", b"a,", b'a="', b"=?a?q?", b"sha-256=:", b"gzip,", b" ", b"%41", b"\xff", b"../"]
READ = ["Accept-Ranges", "Content-Disposition", "Content-Digest", "Content-Encoding", "Content-MD5", "Content-Range"]
READ += ["Content-Type", "Date", "Digest", "ETag", "Last-Modified", "Repr-Digest", "Retry-After", "Transfer-Encoding"]


@pytest.mark.parametrize("name", READ)
def test_what_a_field_costs(name: str) -> None:
    """However long a field is, and on however many lines, the time in which it is read has a bound."""
    url = WebUrl.parse("https://example.org/file")
    for unit in UNITS:
        lines = b"\r\n".join([name.encode() + b": " + unit * 1000] * 64)
        for value in (unit * (LONGEST_HEAD_FIELD // len(unit)), unit * (2**18 // len(unit)), lines):
            began = time.process_time()
            try:
                answer = read(OK + name.encode() + b": " + value + b"\r\n\r\n")
            except MalformedHttp:
                continue
            for status in (200, 206, 416, 503):
                head = Head(status, answer.fields, answer.length, url, url)
                assert head.codings is not None
                assert inspection_of(head)
                assert failure_of(head)
                assert ranges_given(head) is not None
            # Measured: 0.05 s; in the square of the length it was minutes.
            assert time.process_time() - began < 2, unit


def test_long_fields() -> None:
    """A field that is too long counts as none; if it says what the body is, the answer is refused by its name."""
    whole = OK + b"Content-Length: 10\r\n"
    assert read(whole + b"ETag: " + b"x" * LONGEST_HEAD_FIELD + b"\r\n\r\n0123456789").fields[b"etag"]
    assert b"etag" not in read(whole + b"ETag: " + b"x" * LONGEST_HEAD_FIELD + b"x\r\n\r\n0123456789").fields
    assert b"link" not in read(whole + b"Link: </a>; rel=b, \r\n" * 2000 + b"\r\n0123456789").fields
    cookies = b"Set-Cookie: a=b; Path=/aaaaaaaaaaaa\r\n" * 2000
    assert len(read(whole + cookies + b"\r\n0123456789").fields[b"set-cookie"]) == 2000
    for name in (b"Content-Length", b"Transfer-Encoding", b"Content-Encoding", b"Content-Range", b"Connection"):
        with pytest.raises(MalformedHttp, match=f"'{name.decode()}' has 20000 bytes"):
            read(OK + name + b": " + b"0" * 20_000 + b"\r\n\r\n")


def test_long_tags() -> None:
    """A tag that would fill the table of transfers is none."""
    url = WebUrl.parse("https://example.org/file")
    for length, kept in ((1000, True), (2000, False)):
        fields = {b"etag": [b'"%s"' % (b"x" * length)]}
        assert (inspection_of(Head(200, fields, 10, url, url)).identity is not None) is kept


def test_fields() -> None:
    """Names are the same in any case, values keep their order and lose the space around them, trailers are none."""
    answer = read(OK + b"X-A: 1\r\nx-a:2\r\nX-B:\r\nContent-Length:  0 \r\n\r\n")
    assert answer.fields == {b"x-a": [b"1", b"2"], b"x-b": [b""], b"content-length": [b"0"]}
    assert b"etag" not in read(ANSWERS["trailers"]).fields


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is not HTTP/1.1: it begins with 'SSH-2.0-OpenSSH_9.2'"),
        (b"RTSP/1.0 200 OK\r\n\r\n", "is not HTTP/1.1: it begins with 'RTSP/1.0 200 OK'"),
        (b"ICY 200 OK\r\n\r\n", "is not HTTP/1.1: it begins with 'ICY 200 OK'"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "is not HTTP/1.1: it begins with 'HTTP/1.1 20 OK'"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "is not HTTP/1.1: it begins with 'HTTP/1.1 2000 OK'"),
        (b"HTTP/1.1 099 OK\r\n\r\n", "the answer's status 099 is not a valid one"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "it begins with "),
        (b"GET /f?token=s3cr3t HTTP/1.1\r\n", "it begins with 'GET /f…'"),
        (b"\r\n\r\n\r\n" + OK + b"\r\n", "is not HTTP/1.1"),
        (b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "switches to another protocol (101)"),
        (OK + b"Content-Length: -3\r\n\r\n", "'Content-Length' is '-3', no number of bytes"),
        (OK + b"Content-Length: many\r\n\r\n", "'Content-Length' is 'many', no number of bytes"),
        (OK + b"Content-Length: 1 000\r\n\r\n", "'Content-Length' is '1 000', no number of bytes"),
        (OK + b"Content-Length: \r\n\r\n", "'Content-Length' is '', no number of bytes"),
        (OK + b"Content-Length: 99999999999999999999\r\n\r\n", "'99999999999999999999', no number of bytes"),
        (OK + b"Content-Length: " + b"9" * 9999 + b"\r\n\r\n", "…', no number of bytes"),
        (OK + b"Content-Length: 5, 7\r\n\r\n", "'Content-Length' comes twice with different values, 5 and 7"),
        (OK + b"Content-Length: 1,000\r\n\r\n", "'Content-Length' comes twice with different values, 1 and 0"),
        (
            OK + b"Content-Length: 5\r\nX: y\r\nContent-Length: 7\r\n\r\n",
            "the answer's header 'Content-Length' comes twice with different values, 5 and 7",
        ),
        (OK + b"Content-Length: 5\r\nContent-Length: 7, 9\r\n\r\n", "comes 3 times with different values, 5, 7, …"),
        (
            OK + b"Transfer-Encoding: x-best, chunked\r\n\r\n",
            "'Transfer-Encoding' is 'x-best, chunked', which is not known",
        ),
    ],
)
def test_heads_that_are_refused(answer: bytes, reason: str) -> None:
    """What can be read in several ways, or in none, is refused by name, whole or byte by byte."""
    for pieces in ([answer], [answer[place : place + 1] for place in range(len(answer))]):
        with pytest.raises(MalformedHttp) as raised:
            read(*pieces)
        assert len(pieces) > 1 or reason in str(raised.value)


LENGTH = b"Content-Length: 10\r\n"
BODY = b"0123456789"
IN_CHUNKS = b"\r\na\r\n0123456789\r\n0\r\n\r\n"
ODD = {
    "reason without a space": b"HTTP/1.1 200OK\r\n" + LENGTH + b"\r\n" + BODY,
    "two spaces": b"HTTP/1.1  200 OK\r\n" + LENGTH + b"\r\n" + BODY,
    "another minor version": b"HTTP/1.2 200 OK\r\n" + LENGTH + b"\r\n" + BODY,
    "another version": b"HTTP/2.0 200 OK\r\n" + LENGTH + b"\r\n" + BODY,
    "no version": b"HTTP 200 OK\r\n" + LENGTH + b"\r\n" + BODY,
    "lower case": b"http/1.1 200 ok\r\ncontent-length: 10\r\n\r\n" + BODY,
    "an empty line before": b"\r\n" + OK + LENGTH + b"\r\n" + BODY,
    "bare line feeds": (OK + b"A: b\r\n" + LENGTH + b"\r\n").replace(b"\r", b"") + BODY,
    "some bare line feeds": OK + b"A: b\n" + LENGTH + b"\n" + BODY,
    "doubled carriage returns": (OK + b"A: b\r\n" + LENGTH + b"\r\n").replace(b"\r", b"\r\r") + BODY,
    "folded": OK + b"X-Long: one\r\n two\r\n\tthree\r\n" + LENGTH + b"\r\n" + BODY,
    "folded length": OK + b"Content-Length:\r\n 10\r\n\r\n" + BODY,
    "folded at once": OK + b" X: y\r\n" + LENGTH + b"\r\n" + BODY,
    "space before the colon": OK + b"Content-Length : 10\r\n\r\n" + BODY,
    "odd names": OK + b"X Cache Key: a\r\nX-\xc3\xa9: b\r\n: c\r\n" + LENGTH + b"\r\n" + BODY,
    "no colon": OK + b"this is no header\r\n" + LENGTH + b"\r\n" + BODY,
    "control characters": OK + b"X: a\x01b\x00c\rd\x7fe\r\n" + LENGTH + b"\r\n" + BODY,
    "length twice": OK + LENGTH + LENGTH + b"\r\n" + BODY,
    "length in a list": OK + b"Content-Length: 10, 10,\r\n\r\n" + BODY,
    "length with a sign": OK + b"Content-Length: +10\r\n\r\n" + BODY,
    "length with a fraction": OK + b"Content-Length: 10.0\r\n\r\n" + BODY,
    "length with a word": OK + b"Content-Length: 10 bytes\r\n\r\n" + BODY,
    "length and chunks": OK + LENGTH + b"Transfer-Encoding: chunked\r\n" + IN_CHUNKS,
    "chunks and another length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n" + IN_CHUNKS,
    "chunks and a length that is none": OK + b"Content-Length: ?\r\nTransfer-Encoding: chunked\r\n" + IN_CHUNKS,
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" + IN_CHUNKS,
    "chunked in a list twice": OK + b"Transfer-Encoding: chunked, Chunked\r\n" + IN_CHUNKS,
    "chunked with a parameter": OK + b"Transfer-Encoding: chunked;q=1\r\n" + IN_CHUNKS,
    "chunked and identity": OK + b"Transfer-Encoding: identity, chunked\r\n" + IN_CHUNKS,
    "identity": OK + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\n" + BODY,
    "binary": OK + b"Transfer-Encoding: binary\r\n" + LENGTH + b"\r\n" + BODY,
    "no coding": OK + b"Transfer-Encoding:\r\n" + LENGTH + b"\r\n" + BODY,
    "old and chunked": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n" + IN_CHUNKS,
    "chunks with bare line feeds": CHUNKED + b"a\n0123456789\n0\n\n",
    "chunks with doubled carriage returns": CHUNKED + b"a\r\r\n0123456789\r\r\n0\r\r\n\r\r\n",
    "sizes with spaces before": CHUNKED + b"  a\r\n0123456789\r\n 0\r\n\r\n",
    "sizes with many zeros": CHUNKED + b"0" * 30 + b"a\r\n0123456789\r\n0\r\n\r\n",
    "sizes with words": CHUNKED + b"a bytes\r\n0123456789\r\n0\r\n\r\n",
    "an odd hint": b"HTTP/1.1 103 Early Hints\nLink: </a>\n\n" + OK + LENGTH + b"\r\n" + BODY,
}


@pytest.mark.parametrize("name", ODD)
def test_what_others_read(name: str) -> None:
    """What is not HTTP/1.1 to the letter is read as curl, wget and browsers do; the connection serves no more."""
    answer = ODD[name]
    whole = read(answer)
    assert (whole.status, whole.body, whole.complete, whole.reusable) == (200, BODY, True, False)
    for cut in range(len(answer)):
        assert read(answer[:cut], answer[cut:]) == whole
    assert read(*(answer[place : place + 1] for place in range(len(answer)))) == whole


def test_fields_of_an_odd_head() -> None:
    """Folds and control characters are spaces, a line without a colon is none, and the other fields are all there."""
    answer = read(OK + b"A : 1\r\nB: one\r\n  two\nno colon\nC: x\x00y\r\n: d\r\na:2\r\nContent-Length: 0\r\n\r\n")
    assert answer.fields == {b"a": [b"1", b"2"], b"b": [b"one two"], b"c": [b"x y"], b"content-length": [b"0"]}


def test_a_length_beside_chunks_is_not_believed() -> None:
    """Where the chunks say how long a body is, the size of the file is not known before."""
    assert read(ODD["length and chunks"]).length is None
    assert read(ODD["length twice"]).length == 10


@pytest.mark.parametrize(
    "sizes",
    [
        b"a   \r\n0123456789\r\n0 \r\n\r\n",
        b"0000000a\r\n0123456789\r\n000\r\n\r\n",
        b"a;x=y;z\r\n0123456789\r\n0;x\r\n\r\n",
        b"5\r\n01234\r\n5\r\n56789\r\n0\r\nContent-Length: 3\r\nnothing\r\n more\r\n\r\n",
    ],
)
def test_padded_chunks(sizes: bytes) -> None:
    """Sizes may be padded, extensions and trailers of any kind are passed over, and the connection serves again."""
    answer = CHUNKED + sizes
    whole = read(answer)
    assert (whole.body, whole.complete, whole.reusable) == (BODY, True, True)
    assert read(*(answer[place : place + 1] for place in range(len(answer)))) == whole


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        (b"0x3\r\nabc\r\n", "expected the size of a chunk, got '0x3'"),
        (b"-3\r\nabc\r\n", "expected the size of a chunk, got '-3'"),
        (b"\r\nabc\r\n", "expected the size of a chunk, got ''"),
        (b";x\r\nabc\r\n", "expected the size of a chunk, got ';x'"),
        (b"3\r\nabcd\r\n", "expected the end of a chunk, got 'd'"),
        (b"f" * 17 + b"\r\n", "expected the size of a chunk, got 'fffff"),
        (b"zz?token=s3cr3t\r\n", "expected the size of a chunk, got 'zz…'"),
    ],
)
def test_chunks_that_are_none(chunks: bytes, reason: str) -> None:
    """A body is broken where its chunks are, and says how; what came before is kept."""
    whole = CHUNKED + b"2\r\nxy\r\n" + chunks
    for pieces in (
        [whole],
        [CHUNKED, b"2\r\nxy\r\n", chunks],
        [whole[place : place + 1] for place in range(len(whole))],
    ):
        reader = AnswerReader(b"GET")
        body = b"".join([reader.feed(piece) for piece in pieces])
        assert body.startswith(b"xy")
        assert (reader.answered, reader.complete) == (True, False)
        assert reason in reader.broken


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.lists(st.integers(0, 400)), st.booleans())
def test_chunks_of_any_size(parts: list[bytes], cuts: list[int], padded: bool) -> None:
    """Whatever is sent in chunks is read, however it is cut."""
    size = b"%04x  " if padded else b"%x"
    answer = CHUNKED + b"".join(size % len(part) + b"\r\n" + part + b"\r\n" for part in parts) + b"0\r\n\r\n"
    places = [0, *sorted(cuts), len(answer)]
    found = read(*(answer[a:b] for a, b in pairwise(places)))
    assert (found.body, found.complete, found.reusable) == (b"".join(parts), True, True)


@pytest.mark.parametrize(
    ("answer", "method", "length", "kept"),
    [
        (OK + b"Content-Length: 5\r\n\r\n", b"HEAD", 5, True),
        (OK + b"\r\n", b"HEAD", None, True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"HEAD", None, True),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b"GET", 5, True),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", b"GET", None, True),
        (OK + b"Connection: Close\r\nContent-Length: 0\r\n\r\n", b"GET", 0, False),
        (OK + b"Connection: x, close\r\nContent-Length: 0\r\n\r\n", b"GET", 0, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", b"GET", 0, False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", b"GET", 0, True),
    ],
)
def test_answers_without_a_body(answer: bytes, method: bytes, length: int | None, kept: bool) -> None:
    """Where no body comes the answer is complete with its head, and the connection is kept where the server lets it."""
    found = read(answer, method=method)
    assert (found.complete, found.length, found.reusable, found.body) == (True, length, kept, b"")


@pytest.mark.parametrize("answer", [OK + b"\r\n", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"])
def test_a_body_until_the_end_of_the_connection(answer: bytes) -> None:
    """Without length and chunks everything that comes is the body."""
    reader = AnswerReader(b"GET")
    assert reader.feed(answer + b"one") + reader.feed(b"HTTP/1.1") == b"oneHTTP/1.1"
    assert (reader.until_close, reader.complete, reader.reusable, reader.length) == (True, False, False, None)


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("more", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"])
def test_more_than_the_answer(name: str, more: bytes) -> None:
    """What follows an answer is not the body's, and forbids another request on the connection."""
    reader = AnswerReader(b"GET")
    assert reader.feed(ANSWERS[name] + more) == read(ANSWERS[name]).body
    assert (reader.complete, reader.excess, reader.reusable) == (True, True, False)


@pytest.mark.parametrize("line", [b"X: " + b"x" * 8000 + b"\r\n", b"x" * 8000])
def test_a_head_without_an_end(line: bytes) -> None:
    """A head, and those that only announce it, are read to a bound."""
    reader = AnswerReader(b"GET")
    reader.feed(b"HTTP/1.1 103 Early Hints\r\nX: " + b"x" * (LARGEST_HEAD // 2) + b"\r\n\r\n" + OK)
    for _ in range((LARGEST_HEAD // 2 - 100) // len(line)):
        reader.feed(line)
    with pytest.raises(HeadTooLarge):
        reader.feed(line)


@pytest.mark.parametrize("line", [b"a:\r\n", b" folded\n"])
def test_a_head_of_many_lines(line: bytes) -> None:
    """Short lines take far more time than their bytes: they are counted before they are read."""
    head = b"HTTP/1.1 200 OK\r\nA: b\r\n"
    assert not read(head + line * (MOST_HEAD_LINES - 3) + b"\r\n").body
    with pytest.raises(HeadTooLarge):
        AnswerReader(b"GET").feed(head + line * MOST_HEAD_LINES + b"\r\n")


def test_many_informational_answers() -> None:
    """Their number has a bound, and their lines count too."""
    continued = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert read(continued * MOST_INFORMATIONAL + OK + b"\r\n").status == 200
    with pytest.raises(HeadTooLarge):
        AnswerReader(b"GET").feed(continued * (MOST_INFORMATIONAL + 1))
    hints = b"HTTP/1.1 103 Early Hints\r\n" + b"Link: </a>\r\n" * (MOST_HEAD_LINES // 2) + b"\r\n"
    with pytest.raises(HeadTooLarge):
        AnswerReader(b"GET").feed(hints * 2)


@pytest.mark.parametrize("endless", [b"2;" + b"x" * 2**16, b"0\r\nX: " + b"x" * 2**16])
def test_chunks_without_a_body(endless: bytes) -> None:
    """What is sent between the bytes of a body, or after them, has a bound too."""
    reader = AnswerReader(b"GET")
    reader.feed(CHUNKED + b"2\r\nxy\r\n" + endless)
    for _ in range(LARGEST_HEAD // 2**16):
        assert not reader.broken
        reader.feed(b"x" * 2**16)
    reader.feed(b"x" * 2**16)
    assert reader.broken
