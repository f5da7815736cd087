"""Chunked bodies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamover.api.http.chunks import ChunkedDecoder, MalformedChunk
from datamover.bounds.door import CHUNK_STEPS_IN_TURN


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=20), max_size=120),
    cut=st.integers(5, 500),
    behind=st.binary(max_size=10),
    held=st.sets(st.integers(0, 30), max_size=5),
)
def test_any_chunks(pieces: list[bytes], cut: int, behind: bytes, held: set[int]) -> None:
    """A body arrives whole, with what stands behind it, however it is cut, and wherever the reading is held."""
    sent = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n" + behind
    body, rest = list[bytes](), list[bytes]()
    asked = iter(range(10**9))
    chunks = ChunkedDecoder(body.append, rest.append, lambda: next(asked) in held)
    for start in range(0, len(sent), cut):
        if rest:
            rest.append(sent[start : start + cut])
            continue
        chunks.dataReceived(sent[start : start + cut])
        while chunks.more and not rest:
            chunks.advance()
    assert b"".join(body) == b"".join(pieces)
    assert b"".join(rest) == behind


def test_a_turn_has_a_bound() -> None:
    """Of many chunks of a byte only some are read at a time."""
    body = list[bytes]()
    chunks = ChunkedDecoder(body.append, body.append, lambda: False)
    chunks.dataReceived(b"1\r\n \r\n" * 10_000)
    assert chunks.more
    assert len(body) <= CHUNK_STEPS_IN_TURN


def test_what_is_malformed() -> None:
    """No size is no chunk."""
    with pytest.raises(MalformedChunk):
        ChunkedDecoder(lambda _: None, lambda _: None, lambda: False).dataReceived(b"zz\r\n")
