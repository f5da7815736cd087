"""Whatever is sent to the interface is answered or refused: no input is a bug, and no client waits for ever.

A short run of what ``make fuzz`` does for as long as one likes.
"""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from xmlrpc.client import Binary, DateTime, Fault, loads

from hypothesis import given, settings
from hypothesis import strategies as st

from datamover.api.methods.calling import BUG
from datamover.requests.files import FILE_KEYS
from datamover.requests.jobs import JOB_KEYS
from tests.servers.door import one
from tests.servers.mouth import HEAD, METHODS, Mouth, posted


@cache
def mouth() -> Mouth:
    """Return the interface that gets every example; it makes no files."""
    return Mouth(Path(mkdtemp(prefix="datamover-test-")))


LINES = st.sampled_from(
    [
        *(
            b"POST /RPC2 HTTP/1.1",
            b"GET /data_mover HTTP/1.1",
            b"POST / HTTP/1.0",
            b"HEAD * HTTP/1.1",
            b"PRI * HTTP/2.0",
        ),
        *(
            b"Host: localhost",
            b"Host: evil.example.org",
            b"Content-Type: text/xml",
            b"Origin: null",
            b"Connection: close",
        ),
        *(b"Content-Length: 5", b"Content-Length: 99999999999", b"Content-Length: x", b"Transfer-Encoding: chunked"),
        *(
            b"Expect: 100-continue",
            b"Authorization: Basic eDp5",
            b"Upgrade: h2c",
            b" folded",
            b": empty",
            b"Cookie: a=b",
        ),
        *(b"", b"5", b"hello", b"0", b"ffffffffffffffff", b"-1", b"<methodCall/>"),
    ]
)
REQUESTS = st.lists(LINES | st.binary(max_size=20), max_size=12).map(b"\r\n".join)


@given(st.lists(REQUESTS | st.binary(max_size=50), max_size=4))
@settings(max_examples=150, deadline=None)
def test_no_bytes_break_it(pieces: list[bytes]) -> None:
    """Any bytes, in any pieces, are a request, or are refused, or are no whole request and then time is up."""
    mouth().feed(pieces)


@given(st.binary(max_size=200), st.integers(0, 200))
@settings(max_examples=50, deadline=None)
def test_no_body_breaks_it(body: bytes, cut: int) -> None:
    """Any body in any two pieces is answered with a Fault, or is cut off and then time is up."""
    whole = posted(body)
    answer = mouth().feed([whole[: len(HEAD) + cut], whole[len(HEAD) + cut :]])
    assert answer.startswith(b"HTTP/1.1 200")


NUMBERS = st.integers(-(2**31), 2**31 - 1) | st.floats() | st.sampled_from([0, 1, -1, True, False, float("nan")])
TEXT = st.text(max_size=20) | st.sampled_from(
    [
        *(
            "",
            "archive",
            "local",
            "archive/",
            "../x",
            "a/b",
            "a\0b",
            "https://example.org/a",
            "scp://archive/a",
            "ala://ala",
        ),
        *("gbif://gbif?taxonKey=1", "urn:lsid:a:b:c", "COMPLETED", "1", "0" * 30, "9" * 30, "²", "sha256:" + "a" * 64),
        *("http://[", "http://①/", "continue", "never", "zip", "\ud7ff", "x" * 5000, "https://a:b@c/d", "2026-01-01"),
    ]
)
OTHERS = {"type", "host", "zip", "sources", "lsid", "url", "methodName", "params"}
OPTIONS = {"status", "offset", "limit", "after", "job", "timeout", "before", "owner"}
NAMES = st.sampled_from(sorted(JOB_KEYS | FILE_KEYS | OTHERS | OPTIONS))
VALUES = st.recursive(
    st.none() | NUMBERS | TEXT | st.just(Binary(b"x")) | st.just(DateTime("20260101T00:00:00")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | TEXT, inner, max_size=4),
    max_leaves=12,
)
NEARLY = st.dictionaries(NAMES, VALUES, max_size=2).map(lambda changes: one(**changes))


@given(st.sampled_from([*METHODS, "jobs.submit", "move", "system.multicall"]), st.lists(VALUES | NEARLY, max_size=4))
@settings(max_examples=300, deadline=None)
def test_no_call_is_a_bug(method: str, parameters: list[Any]) -> None:
    """Any method with any parameters is answered, or refused with a Fault that is not 8002."""
    answer = mouth().call(method, tuple(parameters))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    try:
        loads(body)
    except Fault as fault:
        code = fault.faultCode
    else:
        code = 0
    assert code != BUG
