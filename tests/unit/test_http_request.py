"""What a request looks like, and what is never sent in one."""

import pytest

from datamover import __version__
from datamover.errors import InvalidRequest
from datamover.protocols.http.client.request import request_of

USUAL = f"User-Agent: datamover/{__version__}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n".encode()


def test_a_request() -> None:
    """A request names its host, who asks, and that the file itself is wanted."""
    assert request_of(b"GET", "/a?b=c", "h:81", {}, None) == b"GET /a?b=c HTTP/1.1\r\nHost: h:81\r\n" + USUAL + b"\r\n"


def test_own_headers() -> None:
    """A header of one's own goes before the usual one of that name; a value is UTF-8."""
    sent = request_of(b"GET", "/", "h", {"ACCEPT": "a/b", "X-Y": "ü\tz"}, None)
    assert sent.count(b"ccept: ") + sent.count(b"CCEPT: ") == 1
    assert b"ACCEPT: a/b\r\n" in sent
    assert b"X-Y: \xc3\xbc\tz\r\n" in sent


@pytest.mark.parametrize(("body", "length"), [(None, 0), (b"", 0), (b"abc", 3)])
def test_a_body(body: bytes | None, length: int) -> None:
    """A body goes out with its length, and a POST without one says so."""
    head, _, sent = request_of(b"POST", "/", "h", {}, body).partition(b"\r\n\r\n")
    assert head.endswith(b"Content-Length: %d" % length)
    assert sent == (body or b"")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "s3cr3t\r\nY: z"),
        ("X", "s3cr3t\nY: z"),
        ("X", "s3cr3t\rz"),
        ("X", "s3cr3t\x00"),
        ("X\r\nY", "s3cr3t"),
        ("X Y", "s3cr3t"),
        ("X:", "s3cr3t"),
        ("", "s3cr3t"),
        ("é", "s3cr3t"),
        ("Host", "s3cr3t"),
        ("content-length", "3"),
        ("Transfer-Encoding", "s3cr3t"),
        ("Connection", "s3cr3t"),
    ],
)
def test_headers_that_are_not_sent(name: str, value: str) -> None:
    """What would change the head itself is refused, and its value is not told."""
    with pytest.raises(InvalidRequest, match="cannot be sent") as raised:
        request_of(b"GET", "/", "h", {name: value}, None)
    assert "s3cr3t" not in raised.value.message
