"""How the bytes of an answer are read: strictly, and the same wherever they are cut."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamover.protocols.http.reader import LARGEST_HEAD, AnswerReader, Fields, HeadTooLarge, Malformed

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
        except (Malformed, HeadTooLarge):
            assert not reader.answered


def test_a_body_is_handed_on_as_it_came() -> None:
    """The bytes of a body with a length are not copied."""
    reader = AnswerReader(b"GET")
    reader.feed(OK + b"Content-Length: 200000\r\n\r\n")
    piece = bytes(100000)
    assert reader.feed(piece) is piece
    assert reader.feed(piece) is piece
    assert reader.complete


def test_fields() -> None:
    """Names are the same in any case, values keep their order and lose the space around them, trailers are none."""
    answer = read(OK + b"X-A: 1\r\nx-a:2\r\nX-B:\r\nContent-Length:  0 \r\n\r\n")
    assert answer.fields == {b"x-a": [b"1", b"2"], b"x-b": [b""], b"content-length": [b"0"]}
    assert b"etag" not in read(ANSWERS["trailers"]).fields


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2",
        b"\r\n" + OK + b"\r\n",
        b"RTSP/1.0 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\nA: b\n\n",
        OK + b"A: b\n\n",
        OK + b"A: b\nB: c\r\n\r\n",
        OK + b"A: b\r\n folded\r\n\r\n",
        OK + b" A: b\r\n\r\n",
        OK + b"A : b\r\n\r\n",
        OK + b"A\r\n\r\n",
        OK + b": b\r\n\r\n",
        OK + b"A: b\x00c\r\n\r\n",
        OK + b"A: b\rc\r\n\r\n",
        OK + b"Content-Length: +3\r\n\r\n",
        OK + b"Content-Length: -3\r\n\r\n",
        OK + b"Content-Length: 3, 3\r\n\r\n",
        OK + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n",
        OK + b"Content-Length: \r\n\r\n",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
        OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: identity\r\n\r\n",
    ],
)
def test_heads_that_are_refused(answer: bytes) -> None:
    """What is not HTTP/1.1 to the letter is not guessed at, whole or byte by byte."""
    for pieces in ([answer], [answer[place : place + 1] for place in range(len(answer))]):
        with pytest.raises(Malformed):
            read(*pieces)


@pytest.mark.parametrize(
    "chunks",
    [
        b"0\r\nContent-Length: 3\r\n\r\n",
        b"0x3\r\nabc\r\n",
        b"-3\r\nabc\r\n",
        b"3 \r\nabc\r\n",
        b"3\nabc\n0\n\n",
        b"3\r\nabcd\r\n",
        b"f" * 17 + b"\r\n",
    ],
)
def test_chunks_that_are_none(chunks: bytes) -> None:
    """A body is broken where its chunks are; what came before is kept."""
    for pieces in ([CHUNKED + b"2\r\nxy\r\n" + chunks], [CHUNKED, b"2\r\nxy\r\n", chunks]):
        reader = AnswerReader(b"GET")
        body = b"".join([reader.feed(piece) for piece in pieces])
        assert body.startswith(b"xy")
        assert (reader.answered, reader.broken, reader.complete) == (True, True, False)


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
